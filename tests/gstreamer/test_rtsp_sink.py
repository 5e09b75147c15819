"""Annotated pictures over RTSP, read back by PyAV and by GStreamer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from sink_results import sink_result

from edgedet.errors import SinkError, SourceError
from edgedet.runtime.capture import GStreamerSource
from edgedet.runtime.capture.network import NetworkOptions, NetworkSource
from edgedet.runtime.sinks import SINKS, SinkRunner, rtsp
from edgedet.runtime.sinks.rtsp import RtspAddress, RtspSink
from edgedet.runtime.stream import StreamResult

PATIENCE_S = 20.0
ANYWHERE = RtspAddress(port=0)
SIZE = (162, 121)


@contextlib.contextmanager
def feeding(sink: RtspSink, *results: StreamResult) -> Iterator[list[float]]:
    """Write results again and again; yields how long each took, in seconds."""
    stopped = threading.Event()
    spent: list[float] = []

    def run() -> None:
        while not stopped.wait(0.02):
            for result in results:
                before = time.monotonic()
                sink.write(result)
                spent.append(time.monotonic() - before)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield spent
    finally:
        stopped.set()
        thread.join()


def read_back(url: str) -> np.ndarray:
    source = NetworkSource(url, options=NetworkOptions(timeout=PATIENCE_S))
    images = [source.read().image for _ in range(3)]
    source.close()
    return images[-1].astype(int)


@pytest.mark.parametrize(
    ("encoder", "size"), [("x264enc", (162, 120)), ("openh264enc", (162, 120)), ("jpegenc", (160, 120))]
)
def test_the_annotated_picture_is_read_back(monkeypatch, encoder, size):
    monkeypatch.setattr(rtsp, "_ENCODERS", {encoder: rtsp._ENCODERS[encoder]})
    sink = SINKS["rtsp"](ANYWHERE, fps=25)
    result = sink_result(7, size=SIZE)
    with contextlib.closing(sink), feeding(sink, result):
        assert sink.encoder == encoder and sink.urls == (f"rtsp://127.0.0.1:{sink.address.port}/live",)
        image = read_back(sink.urls[0])
    assert image.shape == (size[1], size[0], 3), "of 162x121: encoders take even sizes, JPEG over RTP multiples of 8"
    assert abs(image - result.annotated[: size[1], : size[0]]).mean() < 8
    # The box of the dog is drawn, in a colour: the frame itself is grey.
    assert np.ptp(result.annotated, axis=2).max() > 60 < np.ptp(image, axis=2).max()


def test_several_clients_and_one_that_comes_again():
    sink = RtspSink(ANYWHERE)
    with contextlib.closing(sink), feeding(sink, sink_result(7, size=SIZE)):
        url = sink.urls[0]
        other = GStreamerSource(
            f"rtspsrc location={url} protocols=tcp ! decodebin ! videoconvert ! video/x-raw,format=BGR ! appsink",
            timeout=PATIENCE_S,
        )
        assert other.read().image.shape == read_back(url).shape
        other.close()
        deadline = time.monotonic() + PATIENCE_S
        while sink._mounts[0].watched:
            assert time.monotonic() < deadline, "nothing is encoded while nobody looks"
            time.sleep(0.02)
        assert read_back(url).shape == (120, 162, 3)


def test_a_path_for_each_source():
    sink = RtspSink(replace(ANYWHERE, path="all"), ["front door", "yard"])
    dark, bright = sink_result(1, size=SIZE, objects=0), sink_result(16, size=SIZE, objects=0)
    with contextlib.closing(sink), feeding(sink, dark, replace(bright, source_index=1)):
        assert [url.rpartition("/all/")[2] for url in sink.urls] == ["front_door", "yard"]
        means = [round(float(read_back(url).mean())) for url in sink.urls]
    assert means == [pytest.approx(50, abs=3), pytest.approx(200, abs=3)]


def test_a_client_that_reads_nothing_slows_nobody():
    """It asks for the stream inside the connection (TCP) and then never empties its socket."""
    sink = RtspSink(ANYWHERE)
    noise = sink_result(7, size=(640, 480), objects=0)
    noise.frame.planes[0][:] = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    with contextlib.closing(sink), feeding(sink, noise) as spent:
        stuck = socket.create_connection(("127.0.0.1", sink.address.port))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        url = sink.urls[0]
        session = ""
        for number, request in enumerate(
            (
                f"DESCRIBE {url}",
                f"SETUP {url}/stream=0\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1",
                f"PLAY {url}",
            )
        ):
            verb, _, headers = request.partition("\r\n")
            extra = "".join(f"\r\n{line}" for line in (headers, session) if line)
            stuck.sendall(f"{verb} RTSP/1.0\r\nCSeq: {number}{extra}\r\n\r\n".encode())
            answer = stuck.recv(4096).decode(errors="replace")
            assert answer.startswith("RTSP/1.0 200 OK")
            session = next((line.partition(";")[0] for line in answer.splitlines() if "Session:" in line), "")
        for _ in range(3):
            assert read_back(url).shape == (480, 640, 3), "others still get theirs"
        stuck.close()
    assert max(spent) < 5


def test_behind_a_runner_nothing_is_waited_for():
    sink = RtspSink(ANYWHERE)
    with SinkRunner([sink], live=True) as runner:
        for number in range(100):
            assert runner.write(sink_result(number, size=SIZE))
    assert runner.errors == []
    with pytest.raises(SourceError):
        NetworkSource(sink.urls[0], options=NetworkOptions(timeout=1))
    sink.close()


def test_a_port_that_is_taken_and_a_size_that_changes_are_said():
    sink = RtspSink(ANYWHERE)
    with contextlib.closing(sink):
        with pytest.raises(SinkError, match=f"port {sink.address.port}.*Address already in use"):
            RtspSink(sink.address)
        sink.write(sink_result(0, size=(64, 48)))
        with pytest.raises(SinkError, match="pictures of one size, 64x48, got 32x24"):
            sink.write(sink_result(1, size=(32, 24), objects=0))
        with pytest.raises(SinkError, match="at least 16x16 for RTSP, got 32x8"):
            sink.write(sink_result(1, size=(32, 8), objects=0))


def test_no_encoder_is_said(monkeypatch):
    monkeypatch.setattr(rtsp, "_ENCODERS", {"nosuchenc": ""})
    with pytest.raises(SinkError, match=r"an encoder for RTSP, one of nosuchenc, got none. Install .*plugins-ugly"):
        RtspSink(ANYWHERE)


def test_no_thread_is_left():
    before = threading.active_count()
    for _ in range(3):
        sink = RtspSink(ANYWHERE)
        sink.close()
        sink.close()
    assert threading.active_count() == before
