# make demo    export the example model, quantise it, run it on a video and a picture, score it
# make test    run the tests
# make test-vm run the tests of cameras, in a virtual machine whose kernel has some (x86-64 Debian; QEMU, one download)
# make lint    check style and formatting
# make tidy    look for mistakes in the CUDA kernels with clang-tidy (TIDY_FLAGS=--quick: seconds instead of minutes)
# make gpu     everything that needs a GPU: tests/gpu, and figures into demo/ (see docs/gpu-checks.md)
# make cubins  build the CUDA kernels that are shipped (needs no GPU; minutes where much has changed)
# make venv    only the environment, with edgedet in it
# make clean   remove what the targets made, except the environment
#
# PYTHON=python3.12 chooses the interpreter, VENV=folder the environment;
# VENV_FLAGS=--system-site-packages lets it see the system's packages (TensorRT on a Jetson).

PYTHON ?= python3
VENV ?= .venv
VENV_FLAGS ?=

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
WHAT := pyproject.toml constraints.txt
EDGEDET := $(BIN)/edgedet
PICTURE := $(firstword $(sort $(wildcard examples/digits/images/*)))

.PHONY: help venv demo test test-vm lint tidy gpu cubins clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

# A stamp file in the environment for each set of packages, so that a second make installs nothing.

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)

$(VENV)/.edgedet: $(WHAT) | $(BIN)/python
	@echo "Installing edgedet into '$(VENV)'"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.demo: $(WHAT) | $(BIN)/python
	@echo "Installing edgedet[torch,eval] into '$(VENV)' (torch is large: this takes a few minutes)"
	@$(INSTALL) --editable '.[torch,eval]'
	@touch $@

# ultralytics and pixeltable-yolox name many more packages than loading a network needs; those are in the test extra.
$(VENV)/.test: $(WHAT) | $(BIN)/python
	@echo "Installing edgedet[test] into '$(VENV)' (torch is large: this takes a few minutes)"
	@$(INSTALL) --editable '.[test]'
	@$(INSTALL) --no-deps ultralytics ultralytics-thop pixeltable-yolox
	@touch $@

$(VENV)/.lint: constraints.txt | $(BIN)/python
	@$(INSTALL) ruff
	@touch $@

$(VENV)/.tidy: constraints.txt | $(BIN)/python
	@$(INSTALL) clang-tidy
	@touch $@

$(VENV)/.cubins: $(WHAT) | $(BIN)/python
	@$(INSTALL) --editable '.[cubins]'
	@touch $@

venv: $(VENV)/.edgedet

demo: $(VENV)/.demo
	@mkdir -p demo
	$(EDGEDET) export examples/models/digits.pt -o demo/digits.onnx
	$(EDGEDET) export examples/models/digits.pt --int8 --calib examples/digits/images --data examples/digits \
	  -o demo/digits.int8.onnx
	$(EDGEDET) run demo/digits.onnx --source examples/digits/digits.mp4 --out demo/digits.mp4
	$(EDGEDET) run demo/digits.onnx --source $(PICTURE) --out demo/digits.jpg
	$(EDGEDET) eval demo/digits.onnx --data examples/digits --json demo/scores.json
	@echo
	@echo "The model:              '$(CURDIR)/demo/digits.onnx'"
	@echo "The same in INT8:       '$(CURDIR)/demo/digits.int8.onnx'"
	@echo "The annotated video:    '$(CURDIR)/demo/digits.mp4'"
	@echo "The annotated picture:  '$(CURDIR)/demo/digits.jpg'"
	@echo "The scores:             '$(CURDIR)/demo/scores.json'"
	@echo "Next: $(EDGEDET) inspect demo/digits.onnx"

test: $(VENV)/.test
	$(BIN)/python -m pytest tests/unit $(PYTEST_FLAGS)

test-vm: $(VENV)/.test
	PYTHON=$(BIN)/python tests/vm/run.sh $(PYTEST_FLAGS) || [ $$? = 77 ]

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

tidy: $(VENV)/.tidy
	$(BIN)/python tests/support/tidy_kernels.py --program $(BIN)/clang-tidy $(TIDY_FLAGS)

gpu: $(VENV)/.test
	@mkdir -p demo
	$(EDGEDET) doctor
	$(BIN)/python -m pytest tests/gpu -rs
	$(BIN)/python benchmarks/gpu/stages.py --json demo/stages.json
	$(EDGEDET) export examples/models/digits.pt -o demo/digits.onnx
	$(EDGEDET) export examples/models/digits.pt --fp16 -o demo/digits.fp16.onnx
	$(EDGEDET) export examples/models/digits.pt --int8 --calib examples/digits/images -o demo/digits.int8.onnx
	$(EDGEDET) build demo/digits.int8.onnx --compare demo/digits.fp16.onnx --json > demo/int8_or_fp16.json
	for model in digits digits.fp16 digits.int8; do \
	  $(BIN)/python benchmarks/gpu/end_to_end.py demo/$$model.onnx --json demo/$$model.end_to_end.json || exit 1; \
	done

cubins: $(VENV)/.cubins
	$(BIN)/python -m edgedet.runtime.kernels.build_cubins

clean:
	rm -rf demo build dist edgedet.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find edgedet export runtime tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
