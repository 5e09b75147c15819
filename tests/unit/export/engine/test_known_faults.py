"""Known faults are told for the versions, devices and networks that have them, and for no others."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from edgedet.engine_store.manifest import Flavour
from edgedet.export.engine.known_faults import FAULTS, find_faults, installed_version
from edgedet.target import Target


def network(*operators: str) -> onnx.ModelProto:
    nodes = [helper.make_node(name, ["x"], [f"y{index}"]) for index, name in enumerate(operators)]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph(nodes, "g", [value], []))


@pytest.mark.parametrize(
    ("operators", "flavour", "version", "capability", "found"),
    [
        (("QuantizeLinear", "TopK"), "tensorrt", "10.3.0", "sm_87", "crashes"),
        (("QuantizeLinear", "TopK"), "tensorrt", "10.3.0.30", "sm_87", "crashes"),
        (("QuantizeLinear", "TopK"), "tensorrt", "10.16.1", "sm_87", None),
        (("QuantizeLinear", "TopK"), "rtx", "10.3.0", "sm_87", None),
        (("QuantizeLinear", "Conv"), "tensorrt", "10.3.0", "sm_87", None),
        (("TopK",), "tensorrt", "10.3.0", "sm_87", None),
        (("GridSample",), "tensorrt", "10.13.3.9", "sm_110", "wrong boxes"),
        (("GridSample",), "tensorrt", "10.13.3.9", "sm_87", None),
        (("GridSample",), "tensorrt", "11.4.1", "sm_110", None),
    ],
)
def test_faults_are_told_where_they_are(
    operators: tuple[str, ...], flavour: Flavour, version: str, capability: str, found: str | None
) -> None:
    told = [fault.what for fault in find_faults(network(*operators), flavour, version, Target((capability,)))]
    assert len(told) == (found is not None)
    assert found is None or found in told[0]


def test_every_fault_says_what_to_do_and_how_it_is_known() -> None:
    assert all(fault.what and fault.action and fault.source for fault in FAULTS)


def test_a_version_that_is_not_installed() -> None:
    assert installed_version("tensorrt") is None or "." in str(installed_version("tensorrt"))
