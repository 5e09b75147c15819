"""Layers tried from half way through the network are judged as with the whole of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_networks import residual_network, residual_spec, write_pictures

from edgedet.export.quantisation import layer_trials
from edgedet.export.quantisation.calibration import find_pictures
from edgedet.export.quantisation.judge import run_network
from edgedet.export.quantisation.laboratory import Laboratory
from edgedet.export.quantisation.layer_trials import answers_with_one_layer
from edgedet.export.quantisation.placement import Layer, Target, place
from edgedet.export.quantisation.quantise import set_up
from edgedet.export.quantisation.ranges import Range
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.export.quantisation.sensitivity import rank_layers
from edgedet.maps import ClassMap


def laboratory(folder: Path, target: Target) -> tuple[Laboratory, list[Layer]]:
    write_pictures(folder, 8)
    request = QuantisationRequest("int8", calib=folder, target=target)
    found = find_pictures(folder)
    made, layers = set_up(residual_network(), residual_spec(), request, found, lambda _what, _done, _all: None)
    return made, [layer for layer in layers if not layer.reason]


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
@pytest.mark.parametrize("limit", [0, layer_trials.LIMIT])
def test_answers_are_those_of_the_whole_network(
    tmp_path: Path, target: Target, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_trials, "LIMIT", limit)
    made, layers = laboratory(tmp_path, target)
    # Coarse enough for every layer to change pixels.
    ranges = {name: Range(span.low * 20, span.high * 20) for name, span in made.ranges("minmax").items()}
    found = dict(answers_with_one_layer(made, layers, ranges))
    assert found.keys() == set(layers) and len(layers) >= 3
    changed = 0
    for layer in layers:
        alone = place(made.graph, target, frozenset({layer.node}))
        model = made.quantise(alone, {name: ranges[name] for name in alone.activations})
        answers = run_network(made.spec, model, made.pictures)
        for expected, got, before in zip(answers, found[layer], made.reference, strict=True):
            assert isinstance(expected, ClassMap) and isinstance(got, ClassMap) and isinstance(before, ClassMap)
            assert np.array_equal(expected.class_id, got.class_id)
            changed += not np.array_equal(before.class_id, got.class_id)
    assert changed > 0


def test_a_trial_runs_what_comes_after_the_change_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, layers = laboratory(tmp_path, "tensorrt")
    sizes = []
    insert = layer_trials.insert_qdq

    def counting(model, *rest):
        sizes.append(len(model.graph.node))
        return insert(model, *rest)

    monkeypatch.setattr(layer_trials, "insert_qdq", counting)
    monkeypatch.setattr(layer_trials, "STOPS", 100)
    monkeypatch.setattr(layer_trials, "WORKERS", 1)
    list(answers_with_one_layer(made, layers, made.ranges("minmax")))
    nodes = list(made.graph.nodes)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == len(nodes) - min(nodes.index(layer.node) for layer in layers)
    assert sizes[-1] == 1, "the last layer stands alone"


def test_the_most_harmful_layer_comes_first(tmp_path: Path) -> None:
    made, layers = laboratory(tmp_path, "tensorrt")
    done: list[tuple[int, int]] = []
    ranked = rank_layers(made, layers, made.ranges("minmax"), lambda now, of: done.append((now, of)))
    assert [one.harm for one in ranked] == sorted((one.harm for one in ranked), reverse=True)
    assert done == [(index, len(layers)) for index in range(1, len(layers) + 1)]
