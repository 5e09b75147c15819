"""Support vector machines on features: what they put on which side, and which examples they ask for."""

from __future__ import annotations

import numpy as np
from networks.rcnn_svm import Examples, calibrate, fit_machines, join

MIDDLES = np.random.default_rng(0).normal(size=(11, 64)) * 2


def some(seed: int, background: int) -> Examples:
    """Return three examples of each digit, and some of the background, each kind around a middle of its own."""
    labels = np.concatenate([np.repeat(np.arange(1, 11), 3), np.zeros(background, np.int64)])
    noise = np.random.default_rng(seed).normal(size=(len(labels), 64))
    return Examples((MIDDLES[labels] + noise).astype(np.float32), labels)


def test_margins_tell_the_digits_and_the_background_apart() -> None:
    weights, biases = fit_machines(some(1, 60), iter([some(2, 60)]), 0.001)
    unseen = some(3, 60)
    margins = unseen.features @ weights.T + biases
    assert weights.dtype == biases.dtype == np.float32 and weights.shape == (10, 64)
    digits = unseen.labels > 0
    np.testing.assert_array_equal(margins.argmax(axis=1)[digits], unseen.labels[digits] - 1)
    assert (margins[digits].max(axis=1) > 0).all() and (margins[~digits] < 0).all()


def test_a_later_negative_that_fools_the_machines_is_learnt() -> None:
    known = some(1, 60)
    odd = Examples(
        MIDDLES[[4] * 20].astype(np.float32) * np.linspace(0.9, 1.1, 20)[:, None].astype(np.float32),
        np.zeros(20, np.int64),
    )
    fooled = fit_machines(known, iter([]), 0.001)
    taught = fit_machines(known, iter([odd]), 0.001)
    before, after = (odd.features @ weights.T + biases for weights, biases in (fooled, taught))
    assert before[:, 3].min() > 0.2 and after[:, 3].max() < 0.0


def test_a_later_negative_that_is_sure_changes_nothing() -> None:
    known = some(1, 60)
    sure = Examples(np.tile(MIDDLES[0] * 2, (20, 1)).astype(np.float32), np.zeros(20, np.int64))
    for one, other in zip(fit_machines(known, iter([sure]), 0.001), fit_machines(known, iter([]), 0.001), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(join([known, sure]).labels) == 110


def test_calibrated_margins_are_probabilities() -> None:
    """Two kinds of background lie beside each digit's middle, so that no machine can be sure."""
    rng = np.random.default_rng(4)
    near = Examples(
        np.repeat(MIDDLES[1:], 6, axis=0).astype(np.float32) + rng.normal(size=(60, 64)).astype(np.float32),
        np.zeros(60, np.int64),
    )
    seen = join([some(seed, 60) for seed in range(5)] + [near])
    machines = fit_machines(some(9, 60), iter([]), 0.001)
    weights, biases = calibrate(machines, seen)
    probability = 1 / (1 + np.exp(-(seen.features @ weights.T + biases)))
    expected = [(seen.labels == digit + 1).sum() for digit in range(10)]
    np.testing.assert_allclose(probability.sum(axis=0), expected, rtol=0.01)
    order = np.argsort(seen.features @ machines[0].T + machines[1], axis=0)
    assert (np.diff(np.take_along_axis(probability, order, axis=0), axis=0) > -1e-5).all()
