"""edgedet export --int8 on the command line: the accuracy gate, the report and the page, with real small networks."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgedet
from edgedet.cli.main import main
from edgedet.errors import AccuracyGateError
from edgedet.export.onnx_file import load_onnx, write_onnx
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.model_spec import ModelSpec

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
DIGITS = EXAMPLES / "digits"
SCENES = EXAMPLES / "scenes"
NASTY = ("<b>one</b>", "two & three", '"four"', "$x^2", "</script><script>", "'5'", "{{ 6 }}", "\u4e03", "a" * 60, "9")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def digits(folder: Path) -> Path:
    edgedet.export_model(EXAMPLES / "models/digits.pt", folder / "digits.onnx")
    return folder / "digits.onnx"


@pytest.fixture(scope="module")
def one_scale(digits: Path) -> Path:
    """The digit detector behind whose head stands a convolution that changes nothing, until it is quantised.

    It reads boxes of 0..320 pixels and scores of 0..1 as one tensor, and one scale is too coarse for the scores.
    """
    model = load_onnx(digits)
    graph, (output,) = model.graph, model.graph.output
    for node in graph.node:
        node.output[:] = ["mixed" if name == output.name else name for name in node.output]
    rows = output.type.tensor_type.shape.dim[1].dim_value
    graph.initializer.append(numpy_helper.from_array(np.eye(rows, dtype=np.float32)[:, :, None, None], "identity"))
    graph.initializer.append(numpy_helper.from_array(np.array([3]), "last"))
    graph.node.extend(
        [
            helper.make_node("Unsqueeze", ["mixed", "last"], ["mixed_map"], "to_map"),
            helper.make_node("Conv", ["mixed_map", "identity"], ["copied"], "one_scale_head"),
            helper.make_node("Squeeze", ["copied", "last"], [output.name], "to_rows"),
        ]
    )
    path = digits.with_name("one_scale.onnx")
    write_onnx(model, path)
    return path


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgedet.export.quantisation.report.latency.SECONDS", 0.05)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line: exit code, standard output and standard error, each in one line."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgedet", "export", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), " ".join(out.split()), " ".join(err.split())

    return call


QUICK = ("--calib", DIGITS / "images", "--calib-count", "16", "--data", DIGITS, "--method", "minmax")
REPORTS = ("--report", "r.json", "--html", "r.html")


class Page(HTMLParser):
    """What a browser would see: the elements, what they refer to, their style, the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside.append(tag)
        self.references += [
            value or ""
            for name, value in attrs
            if name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster", "background", "style")
            and (name != "style" or "url(" in (value or ""))
        ]

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._inside:
            self.text += data


def read_page(path: str = "r.html") -> Page:
    return Page(Path(path).read_text(encoding="utf-8"))


def read_report() -> dict[str, Any]:
    return dict(json.loads(Path("r.json").read_text(encoding="utf-8")))


def test_a_head_with_one_scale_is_refused(run: Run, one_scale: Path) -> None:
    Path("old.onnx").write_bytes(b"from before")
    code, out, err = run(one_scale, "--int8", *QUICK, "--min-int8", "1", "-o", "old.onnx", *REPORTS)
    assert code == 3
    assert Path("old.onnx").read_bytes() == b"from before"
    assert sorted(path.name for path in Path().iterdir()) == ["old.onnx", "r.html", "r.json"]
    report = read_report()
    found = report["quantisation"]
    assert found["loss"] > 5 and found["holds"] is False and report["written"] is False
    assert f"Expected a loss of at most 1 points of mAP, got {found['loss']:.2f} at best" in err
    assert "100% of the arithmetic in INT8" in err and "--force" in err
    assert report["refusal"] in err
    page = read_page()
    assert f"Refused: mAP fell by {found['loss']:.2f} points at best" in page.text
    assert "No model was written" in page.text
    assert "Wrote 'r.html'" in out and "Wrote 'old.onnx'" not in out and "Next:" not in out


def test_a_refused_network_is_written_with_force(run: Run, one_scale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    code, out, _ = run(one_scale, "--int8", *QUICK, "--min-int8", "1", "--force", "-o", "bad.onnx", *REPORTS)
    assert code == 0
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in onnx.load("bad.onnx").metadata_props})
    assert spec is not None and spec.calibration is not None
    assert spec.calibration["loss"] == read_report()["quantisation"]["loss"] > 5
    page = read_page()
    assert "Over the limit, written with --force" in page.text
    assert "builder makes of the file is not known here. Install it with: pip install 'edgedet[rtx]'" in page.text
    assert read_report()["quantisation"]["builder"] is None
    assert "Wrote 'bad.onnx'" in out


def test_in_python_a_refusal_is_an_error(one_scale: Path) -> None:
    request = QuantisationRequest(
        "int8", calib=DIGITS / "images", calib_count=8, target="cpu", method="minmax", max_drop=0.0, min_int8=1.0
    )
    with pytest.raises(AccuracyGateError, match="at best"):
        edgedet.export_model(one_scale, "bad.onnx", quantisation=request)
    assert not Path("bad.onnx").exists()


def test_the_gate_keeps_the_harmful_layer_alone_in_float_and_the_page_says_so(run: Run, one_scale: Path) -> None:
    code, out, _ = run(one_scale, "--int8", *QUICK, "--max-drop", "5", "-o", "good.onnx", *REPORTS)
    assert code == 0
    report = read_report()
    found = report["quantisation"]
    assert [layer["node"] for layer in found["float_layers"]] == ["one_scale_head"]
    assert found["trials"][0]["loss"] > 5 and found["loss"] <= 5
    assert found["trials"][-1]["share"] == pytest.approx(found["int8_share"], abs=1e-4)
    assert report["size"] == found["size"] == Path("good.onnx").stat().st_size < found["float_size"]
    page = read_page()
    for text in (
        f"{found['float']:.4f}",
        f"{found['quantised']:.4f}",
        f"{found['int8_share']:.1%}",
        f"{found['float_size'] / 1e6:.2f} MB",
        f"{found['size'] / 1e6:.2f} MB",
        f"{found['latency']['float_ms']:.1f} ms",
        f"{found['latency']['quantised_ms']:.1f} ms",
        found["latency"]["engine"],
        "one_scale_head",
        "returned to float by the accuracy gate",
        f"{found['float_layers'][0]['harm']:.4f}",
        *(f"{trial['value']:.4f}" for trial in found["trials"]),
        *(f"{item['float']:.4f}" for item in found["class_losses"]),
        *(f"{item['quantised']:.4f}" for item in found["class_losses"]),
        *found["ranges"],
        *(Path(item["picture"]).name for item in found["most_different"][:3]),
    ):
        assert text in page.text
    shown = f"int8 {found['quantised']:.4f} {found['quantised_scores']['mAP50']:.4f} {found['loss']:.2f}"
    assert f"{shown} {found['size'] / 1e6:.2f} MB {found['latency']['quantised_ms']:.1f} ms" in out
    assert_alone(page, pictures=6, plots=2)
    builder = found["builder"]
    if builder is not None:
        assert f"{builder['int8_kernels']} of {builder['kernels']} convolutions and matrix products" in page.text
        assert builder["share"] == pytest.approx(found["int8_share"], abs=0.02)


def assert_alone(page: Page, *, pictures: int, plots: int) -> None:
    """The page needs nothing beside it: what it refers to is in it, and it runs nothing."""
    assert not {"script", "link", "iframe", "object", "embed", "base", "video", "audio", "form"} & set(page.tags)
    inside = [text for text in page.references if text.startswith(("data:image/jpeg;base64,", "#"))]
    elsewhere = [text for text in page.references if text not in inside]
    assert all("url(#" in text for text in elsewhere)
    images = [text for text in inside if text.startswith("data:")]
    assert len(images) == pictures == page.tags.count("img")
    assert page.tags.count("svg") == plots
    for text in images:
        data = np.frombuffer(base64.b64decode(text.partition(",")[2]), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None


def test_names_with_markup_are_text(run: Run, digits: Path) -> None:
    Path("names.txt").write_text("\n".join(NASTY), encoding="utf-8")
    calib = ("--calib", DIGITS / "images", "--calib-count", "8", "--method", "minmax", "--target", "cpu")
    code, out, _ = run(digits, "--names", "names.txt", "--int8", *calib, "--max-drop", "100", "-o", "q.onnx", *REPORTS)
    assert code == 0, out
    page = read_page()
    named = {item["name"] for item in read_report()["quantisation"]["class_losses"]}
    assert len(named & set(NASTY)) >= 8
    for name in named:
        assert name in page.text
    assert "b" not in page.tags
    assert_alone(page, pictures=page.tags.count("img"), plots=1)
    assert "how far both agree" in page.text and "for ONNX Runtime on a CPU" in page.text


@pytest.mark.parametrize(
    ("model", "asked", "metric", "texts"),
    [
        ("mask_rcnn", ["--int8"], "mask mAP", ["Instance segmentation", "AP, INT8", "how far both agree"]),
        ("fcn", ["--fp16", "--data", SCENES], "mIoU", ["Semantic segmentation", "pixel accuracy", "FP16 is for GPUs"]),
        (
            "panoptic",
            ["--int8", "--fp16", "--data", SCENES],
            "PQ",
            ["Panoptic segmentation", "PQ of things", "FP16 where not INT8"],
        ),
    ],
)
def test_every_task(run: Run, model: str, asked: list[object], metric: str, texts: list[str]) -> None:
    calib = ("--calib", SCENES / "images", "--calib-count", "8", "--method", "minmax", "--max-drop", "20")
    code, out, _ = run(EXAMPLES / f"models/{model}.pt", *asked, *calib, "-o", "q.onnx", *REPORTS)
    assert code == 0, out
    found = read_report()["quantisation"]
    assert found["metric"] == metric and found["against"] == ("labels" if SCENES in asked else "float")
    assert len(found["class_losses"]) >= 5
    assert sum(item["loss"] for item in found["class_losses"]) / len(found["class_losses"]) == pytest.approx(
        found["loss"], abs=0.02
    )
    page = read_page()
    for text in texts:
        assert text in page.text
    assert page.tags.count("img") in (2, 4, 6)
    assert_alone(page, pictures=page.tags.count("img"), plots=1)


def test_without_pictures_the_page_compares_outputs(run: Run, digits: Path) -> None:
    code, _, _ = run(digits, "--fp16", "-o", "q.onnx", *REPORTS)
    assert code == 0
    page = read_page()
    assert "output agreement" in page.text and "By output" in page.text and "output0" in page.text
    assert "By class" not in page.text


@pytest.mark.parametrize("package", ["jinja2", "matplotlib.figure"])
def test_a_missing_extra_is_told_before_the_work_begins(
    run: Run, digits: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = run(digits, "--int8", *QUICK, "-o", "q.onnx", *REPORTS)
    assert code == 1
    assert "pip install 'edgedet[report]'" in err and "load ..." not in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--html", "p.html"], "Expected --int8 or --fp16, which the page is about, got --html alone"),
        (["--fp16", "--html", "nowhere/p.html"], "Choose another with --html"),
    ],
)
def test_a_page_that_cannot_be_is_told_at_once(run: Run, digits: Path, words: list[str], message: str) -> None:
    code, _, err = run(digits, *words, "-o", "q.onnx")
    assert code == 1
    assert message in err and "load ..." not in err
    assert not list(Path().iterdir())
