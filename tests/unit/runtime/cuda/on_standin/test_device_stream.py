"""A Stream over a DeviceDetector, which reads frames while the stream goes on."""

from __future__ import annotations

import numpy as np
import pytest
from device_detectors import on_device, on_host
from fixed_answers import yolox_rows
from stream_sources import InterruptibleSource

from edgedet.runtime.cuda.device import Device
from edgedet.runtime.stream import Stream


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_stream_has_the_answers_of_the_host(device: Device, lanes: int) -> None:
    """Frames come in buffers that are written again as soon as they go back: not before the device has read them."""
    with on_host(yolox_rows()) as host, on_device(yolox_rows(), device, lanes=lanes) as found:
        assert found.batch == 1
        source = InterruptibleSource(pixel_format="GREY")
        with Stream(found, source, policy="every", in_flight=2) as stream:
            source.deliver(6)
            results = [next(stream) for _ in range(6)]
        assert [result.frame.sequence for result in results] == list(range(6))
        for result in results:
            wanted = host(result.frame.image)
            np.testing.assert_array_equal(result.detections.class_id, wanted.class_id)
            np.testing.assert_allclose(result.detections.score, wanted.score, atol=1e-6)
            np.testing.assert_allclose(result.detections.xyxy, wanted.xyxy, atol=1e-3)
            assert (result.frame.image == 40 + 10 * result.frame.sequence).all()
        assert source.held == set()
