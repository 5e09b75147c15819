from __future__ import annotations

import numpy as np
import pytest

from edgedet.export.quantisation.channels import ChannelPower
from edgedet.export.quantisation.histogram import Histogram
from edgedet.export.quantisation.ranges import METHODS, Quantiser, Range, Scheme, choose_range, quantiser


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values.astype(np.float32))
    return histogram


def rounding_error(values: np.ndarray, used: Quantiser) -> float:
    low, high = (-128, 127) if used.scheme == "symmetric" else (0, 255)
    integers = np.clip(np.rint(values / used.scale) + used.zero_point, low, high)
    return float(np.square((integers - used.zero_point) * used.scale - values).sum())


@pytest.mark.parametrize(
    ("span", "scheme", "scale", "zero_point"),
    [
        (Range(-1.0, 2.54), "symmetric", 0.02, 0),
        (Range(-5.08, 1.0), "symmetric", 0.04, 0),
        (Range(0.0, 2.55), "asymmetric", 0.01, 0),
        (Range(-1.0, 1.55), "asymmetric", 0.01, 100),
        (Range(-2.55, 0.0), "asymmetric", 0.01, 255),
    ],
)
def test_scale_and_zero_point(span: Range, scheme: Scheme, scale: float, zero_point: int) -> None:
    used = quantiser(span, scheme)
    assert used.scale == pytest.approx(scale)
    assert used.zero_point == zero_point


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("seed", range(4))
def test_mse_is_no_worse_than_any_other_cut(scheme: Scheme, seed: int) -> None:
    values = np.random.default_rng(seed).laplace(size=20_000)
    best = rounding_error(values, quantiser(choose_range(histogram_of(values), "mse", scheme), scheme))
    for share in np.linspace(0.2, 1.0, 33):
        limit = np.abs(values).max() * share
        other = Range(max(values.min(), -limit), min(values.max(), limit))
        # The histogram knows values to half a bin; the error of that is far below one percent.
        assert best <= 1.01 * rounding_error(values, quantiser(other, scheme))


@pytest.mark.parametrize("method", METHODS)
def test_all_of_a_range_is_kept_where_it_is_used_evenly(method: str) -> None:
    values = np.random.default_rng(0).uniform(-1.0, 1.0, 200_000)
    span = choose_range(histogram_of(values), method, "symmetric")  # type: ignore[arg-type]
    assert span.largest == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize(("method", "most"), [("minmax", 100.0), ("percentile", 6.0), ("entropy", 60.0), ("mse", 60.0)])
def test_one_outlier_among_many_values_is_cut_off(method: str, most: float) -> None:
    values = np.append(np.random.default_rng(0).normal(size=400_000), 100.0)
    span = choose_range(histogram_of(values), method, "symmetric")  # type: ignore[arg-type]
    assert 3.0 < span.high <= most


def test_percentile_keeps_the_share_that_it_names() -> None:
    values = np.random.default_rng(1).normal(size=1_000_000)
    span = choose_range(histogram_of(values), "percentile", "symmetric")
    assert (np.abs(values) <= span.largest).mean() == pytest.approx(0.9999, abs=2e-5)


def test_a_tensor_of_zeros_gets_a_range_that_can_be_divided_by() -> None:
    assert choose_range(histogram_of(np.zeros(10)), "mse", "symmetric") == Range(0.0, 1.0)
    assert choose_range(Histogram(), "entropy", "symmetric") == Range(0.0, 1.0)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_error_of_each_channel_is_that_of_rounding_it(axis: int) -> None:
    rng = np.random.default_rng(2)
    shape = [4, 20, 2000] if axis == 1 else [400, 200, 20]
    scales = np.geomspace(0.01, 50.0, shape[axis])
    values = rng.normal(size=shape) * scales.reshape([-1 if index == axis else 1 for index in range(3)])
    found = ChannelPower.of(values.astype(np.float32), axis)
    flat = np.moveaxis(values, axis, 0).reshape(shape[axis], -1)
    assert np.allclose(found.power(), (flat**2).mean(axis=1), rtol=0.02)
    for limit in (5.0, 40.0, 150.0):
        used = quantiser(Range(-limit, limit), "symmetric")
        expected = [rounding_error(row, used) / row.size for row in flat]
        got = found.error(np.array([limit]), np.array([used.scale]))[:, 0]
        assert np.allclose(got, expected, rtol=0.35, atol=1e-9)
