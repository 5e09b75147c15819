"""Where the RTSP stream is served; tests/gstreamer reads it back."""

from __future__ import annotations

import pytest

from edgedet.errors import MissingDependencyError, SinkError
from edgedet.optional import is_installed
from edgedet.runtime.sinks.rtsp import RtspAddress, RtspSink


@pytest.mark.parametrize(
    ("text", "expected", "url"),
    [
        ("8554", ("127.0.0.1", 8554, "live"), "rtsp://127.0.0.1:8554/live"),
        ("8554/", ("127.0.0.1", 8554, "live"), "rtsp://127.0.0.1:8554/live"),
        ("8554/gate/north", ("127.0.0.1", 8554, "gate/north"), "rtsp://127.0.0.1:8554/gate/north"),
        ("10.0.0.7:554/a", ("10.0.0.7", 554, "a"), "rtsp://10.0.0.7:554/a"),
        ("[::1]:8554", ("::1", 8554, "live"), "rtsp://[::1]:8554/live"),
    ],
)
def test_an_address(text, expected, url):
    address = RtspAddress.parse(text)
    assert (address.host, address.port, address.path) == expected and address.url == url
    assert address.is_loopback == (address.host != "10.0.0.7")


@pytest.mark.parametrize("text", ["", "live", "70000", "host:", "8554/a b", "8554//a", "8554/{x}"])
def test_an_address_that_is_none(text):
    with pytest.raises(SinkError, match=r"\[HOST:\]PORT\[/PATH\] for the RTSP stream"):
        RtspAddress.parse(text)


@pytest.mark.skipif(is_installed("gi"), reason="PyGObject is installed here")
def test_without_pygobject_it_is_said_how_to_get_it():
    with pytest.raises(MissingDependencyError, match="python3-gi"):
        RtspSink(RtspAddress(port=0))
