"""Activations and the choice of candidates, against double precision and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet.runtime.heads.scores import choose, choose_softmax, logit, sigmoid, softmax
from edgedet.runtime.selection import Selection


def test_sigmoid_in_double_precision() -> None:
    x = np.linspace(-200, 200, 4001, dtype=np.float32)
    expected = [1 / (1 + math.exp(-value)) for value in x.tolist()]
    np.testing.assert_allclose(sigmoid(x), expected, rtol=1e-6, atol=1e-37)
    assert np.isnan(sigmoid(np.array([np.nan]))).all()
    assert sigmoid(np.array([-np.inf, np.inf])).tolist() == pytest.approx([0, 1])


def test_softmax_in_double_precision() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (50, 7))
    expected = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(softmax(logits), expected / expected.sum(1, keepdims=True), rtol=1e-5, atol=1e-30)
    assert softmax(np.zeros((0, 7))).shape == (0, 7)


@given(st.floats(0, 1), st.floats(-100, 100, width=32))
def test_logit_never_rules_out_what_the_score_lets_pass(confidence: float, value: float) -> None:
    if sigmoid(np.array([value]))[0] >= np.float32(confidence):
        assert value >= logit(confidence)


@pytest.mark.parametrize("probability", [1e-4, 0.25, 0.5, 0.9])
def test_logit_is_the_inverse_of_the_sigmoid(probability: float) -> None:
    assert sigmoid(np.array([logit(probability)]))[0] == pytest.approx(probability, rel=2e-6)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("background", [None, 0, 3, -1])
@pytest.mark.parametrize("class_ids", [None, (1, 2)])
def test_choice_by_softmax_is_the_plain_loop(
    background: int | None, class_ids: tuple[int, ...] | None, multi_label: bool
) -> None:
    logits = np.random.default_rng(1).normal(0, 3, (200, 6)).astype(np.float32)
    expected = set()
    for location, row in enumerate(logits.astype(float).tolist()):
        total = sum(math.exp(value) for value in row)
        scores = [math.exp(value) / total for value in row]
        if background is not None:
            del scores[background]
        passing = [
            (score, class_id)
            for class_id, score in enumerate(scores)
            if score >= 0.3 and (class_ids is None or class_id in class_ids)
        ]
        expected |= {(location, class_id) for _, class_id in (passing if multi_label else sorted(passing)[-1:])}
    chosen = choose_softmax(logits, background, Selection(confidence=0.3, class_ids=class_ids), multi_label=multi_label)
    assert set(zip(chosen.location.tolist(), chosen.class_id.tolist(), strict=True)) == expected
    assert len(chosen.location) == len(expected)


@pytest.mark.parametrize("class_axis", [0, 1])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("shape", [(0, 4), (5, 4)])
def test_nothing_passes(class_axis: int, multi_label: bool, shape: tuple[int, int]) -> None:
    values = np.full(shape if class_axis else shape[::-1], np.nan, np.float32)
    chosen = choose(values, 0.0, Selection(multi_label=multi_label), class_axis=class_axis)
    assert [len(array) for array in chosen] == [0, 0, 0]


def test_no_class_wanted() -> None:
    chosen = choose(np.ones((5, 4), np.float32), 0.1, Selection(class_ids=()), class_axis=1)
    assert len(chosen.location) == 0


def test_equal_scores_answer_with_the_lower_class() -> None:
    chosen = choose(np.float32([[0.1, 0.9, 0.9]]), 0.5, Selection(), class_axis=1)
    assert chosen.class_id.tolist() == [1]
