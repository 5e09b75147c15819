"""The server as a program without a browser sees it: who is let in, and what is sent to whom."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from sink_results import sink_result

from edgedet.errors import SinkError
from edgedet.maps import ClassMap, PanopticMap, Segment
from edgedet.results import Detections
from edgedet.runtime.overlay import annotate
from edgedet.runtime.sinks import SinkRunner
from edgedet.runtime.sinks.web import Address, PageSettings, WebSink
from edgedet.runtime.sinks.web.page_files import page_files
from edgedet.runtime.sinks.web.record import picture_jpeg

ANY_PORT = Address(port=0)
TOKEN = "a-secret_1"


@pytest.fixture
def sink() -> Iterator[WebSink]:
    with_page = WebSink(ANY_PORT, settings=PageSettings(fps=1000))
    yield with_page
    with_page.close()


@pytest.fixture
def guarded() -> Iterator[WebSink]:
    with_page = WebSink(ANY_PORT, TOKEN)
    yield with_page
    with_page.close()


def get(sink: WebSink, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", sink.address.port, timeout=20)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    endless = urlsplit(path).path == "/stream" and answer.status == 200
    body = b"" if endless else answer.read()
    answer.close()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


class Viewer:
    """Reads records as the page does."""

    def __init__(self, sink: WebSink, query: str = "") -> None:
        before = sink.viewers
        self.connection = socket.create_connection(("127.0.0.1", sink.address.port), 20)
        self.connection.sendall(f"GET /stream{query} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        self.file = self.connection.makefile("rb")
        while self.file.readline().strip():
            pass
        self.hello, _ = self.record()
        wait_until(lambda: sink.viewers > before)

    def record(self) -> tuple[dict, bytes]:
        head, picture = struct.unpack(">II", self.file.read(8))
        return json.loads(self.file.read(head)), self.file.read(picture)

    def frame(self) -> tuple[dict, bytes]:
        """The next record that is not a heartbeat."""
        while "frame" not in (record := self.record())[0]:
            pass
        return record

    def close(self) -> None:
        self.file.close()
        self.connection.close()


@pytest.fixture
def look() -> Iterator[Callable[..., Viewer]]:
    """Makes viewers, which go when the test ends."""
    viewers: list[Viewer] = []

    def look(sink: WebSink, query: str = "") -> Viewer:
        viewers.append(Viewer(sink, query))
        return viewers[-1]

    yield look
    for viewer in viewers:
        viewer.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def decoded(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_by_default_only_this_machine_reaches_it(sink: WebSink):
    assert sink.address.host == "127.0.0.1" and sink.address.is_loopback and not sink.guarded
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if int(local.partition(":")[2], 16) == sink.address.port and state == "0A":
            assert local.startswith("0100007F:")
            break
    else:
        pytest.fail("nobody listens")


def test_the_page_asks_for_nothing_from_elsewhere(sink: WebSink):
    for path, (kind, content) in page_files().files.items():
        status, headers, body = get(sink, path)
        assert (status, headers["Content-Type"], body) == (200, kind, content)
        assert "default-src 'none'" in headers["Content-Security-Policy"] and "unsafe" not in str(headers)
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert not [word for word in (b"http://", b"https://", b"@import") if word in body.replace(SVG, b"")]
    assert get(sink, "/none")[0] == get(sink, "/../server.py")[0] == get(sink, "/page/page.js")[0] == 404
    assert get(sink, "/token.html")[0] == 404


SVG = b"http://www.w3.org/2000/svg"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7:8000", 200),
        (f"{socket.gethostname()}:8000", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("", 403),
    ],
)
def test_a_name_that_a_stranger_may_have_pointed_here_is_refused(sink: WebSink, host, status):
    assert get(sink, "/", Host=host)[0] == get(sink, "/stream", Host=host)[0] == status


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403)]
)
def test_other_web_pages_may_not_use_the_stream(sink: WebSink, site, status):
    assert get(sink, "/stream", Sec_Fetch_Site=site)[0] == status
    assert get(sink, "/", Sec_Fetch_Site=site)[0] == 200, "but may link to the page"


def test_the_token_lets_in_and_nothing_else_does(guarded: WebSink):
    cookie = f"edgedet_token_{guarded.address.port}"
    wrong = [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer é"},
        {"Cookie": f"{cookie}=wrong"},
        {"Cookie": f"edgedet_token={TOKEN}"},
        {"Cookie": "=;;;="},
    ]
    for headers in wrong:
        status, answer, body = get(guarded, "/stream", **headers)
        assert status == 401 and answer["WWW-Authenticate"] == "Bearer" and TOKEN.encode() not in body
        assert get(guarded, "/", **headers)[0] == 401
    assert get(guarded, "/?token=wrong")[0] == get(guarded, f"/stream?token={TOKEN}")[0] == 401
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"a=b; {cookie}={TOKEN}"}):
        assert get(guarded, "/", **headers)[0] == get(guarded, "/stream", **headers)[0] == 200
    assert guarded.guarded and guarded.url.endswith(f"/?token={TOKEN}")


def test_the_address_with_the_token_gives_a_cookie_that_scripts_and_other_sites_do_not_get(guarded: WebSink):
    status, headers, body = get(guarded, f"/?token={TOKEN}", Host="camera.example")
    assert status == 200 and headers["Refresh"] == "0; url=/" and TOKEN.encode() not in body
    value, *flags = [part.strip() for part in headers["Set-Cookie"].split(";")]
    assert value == f"edgedet_token_{guarded.address.port}={TOKEN}"
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(flags)


def test_a_wrong_token_is_told(guarded: WebSink):
    assert b' role="alert" hidden' in get(guarded, "/")[2]
    assert b' role="alert">' in get(guarded, "/?token=wrong")[2]


@pytest.mark.parametrize("token", ["", "a b", "a;b", "é", "a\r\nSet-Cookie: b"])
def test_a_token_that_a_cookie_cannot_hold_is_an_error(token):
    with pytest.raises(SinkError, match="a token of letters"):
        WebSink(ANY_PORT, token)


def test_a_port_that_is_taken_is_an_error(sink: WebSink):
    with pytest.raises(SinkError, match=rf"a free port to listen at 127.0.0.1:{sink.address.port}, got Add"):
        WebSink(sink.address)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8000", Address("127.0.0.1", 8000)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::]:8000", Address("::", 8000)),
        ("robot.local:1", Address("robot.local", 1)),
        ("", None),
        (":8000", None),
        ("::8000", None),
        ("host", None),
        ("1:65536", None),
        ("1:-1", None),
    ],
)
def test_addresses(text, address):
    if address is not None:
        assert Address.parse(text) == address
        return
    with pytest.raises(SinkError, match=r"\[HOST:\]PORT"):
        Address.parse(text)


@pytest.mark.parametrize(("host", "loopback"), [("localhost", True), ("::1", True), ("0.0.0.0", False), ("cam", False)])
def test_what_only_this_machine_reaches(host, loopback):
    assert Address(host).is_loopback is loopback
    assert Address(host).url.startswith("http://") and "0.0.0.0" not in Address(host).url


def test_a_record_is_the_frame_and_what_was_found(sink: WebSink, look):
    viewer = look(sink)
    assert viewer.hello["hello"] == "edgedet" and viewer.hello["version"] == page_files().version
    result = replace(sink_result(7, size=(640, 360)), source_index=2, source_name="rtsp://gate", age_ms=12.345)
    sink.write(result)
    head, jpeg = viewer.frame()
    assert decoded(jpeg).shape == (360, 640, 3)
    assert np.abs(decoded(jpeg).astype(int) - result.frame.image).mean() < 4, "without boxes: the page draws them"
    expected = {
        "frame": 7,
        "source_index": 2,
        "source": "rtsp://gate",
        "picture": "memory",
        "width": 640,
        "height": 360,
    }
    assert {key: head[key] for key in expected} == expected
    assert (head["latency"], head["aged"], head["dropped"], head["kind"]) == (12.35, True, 3, "detections")
    assert head["stages"] == {"preprocess": 2, "infer": 3, "postprocess": 4}
    items = [{key: value for key, value in item.items() if key != "colour"} for item in head["items"]]
    assert items == result.detections.to_json() and head["items"][0]["colour"] == "#0d53ff", "hue 0.618"


def test_sources_are_named_by_what_tells_them_apart(look):
    names = ("a/street.mp4", "b/street.mp4", "c/yard.mp4", "/dev/video0", "rtsp://gate/1")
    sink = WebSink(ANY_PORT, settings=PageSettings(sources=names))
    viewer = look(sink)
    short = ["a/street.mp4", "b/street.mp4", "yard.mp4", "/dev/video0", "rtsp://gate/1"]
    assert viewer.hello["sources"] == short
    for index, name in enumerate(names):
        sink.write(replace(sink_result(), source_index=index, source_name=name))
    heads = [viewer.frame()[0] for _ in names]
    assert {head["source_index"]: head["source"] for head in heads} == dict(enumerate(short))
    sink.close()


def test_boxes_that_are_not_finite_do_not_end_the_page(sink: WebSink, look):
    viewer = look(sink)
    result = sink_result()
    result.detections.xyxy[0, 0] = np.nan
    sink.write(result)
    assert [item["class_name"] for item in viewer.frame()[0]["items"]] == ["cat"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Sizes of the pictures that are encoded from now on."""
    sizes: list[tuple[int, ...]] = []
    encode = cv2.imencode

    def spy(suffix: str, image: np.ndarray, *rest: object) -> object:
        sizes.append(image.shape[1::-1])
        return encode(suffix, image, *rest)

    monkeypatch.setattr(cv2, "imencode", spy)
    return sizes


def test_nothing_is_encoded_while_nobody_looks_and_once_for_all_who_do(sink: WebSink, monkeypatch, look):
    encoded = counted(monkeypatch)
    for sequence in range(5):
        sink.write(sink_result(sequence))
    assert encoded == [] and not sink.pixels
    viewers = [look(sink), look(sink)]
    assert sink.pixels
    sink.write(sink_result(5))
    frames = [viewer.frame() for viewer in viewers]
    assert frames[0] == frames[1] and frames[0][0]["frame"] == 5, "and nothing old"
    assert len(encoded) == 1 and frames[0][0]["dropped"] == 6 * 3, "drops are counted all the time"
    for viewer in viewers:
        viewer.close()
    wait_until(lambda: sink.write(sink_result(6)) and sink.viewers == 0)
    encoded.clear()
    sink.write(sink_result(7))
    assert encoded == []


def test_pictures_are_as_large_as_the_largest_view_of_the_source(sink: WebSink, monkeypatch, look):
    encoded = counted(monkeypatch)

    def write(source: int) -> None:
        sink.write(replace(sink_result(size=(1920, 1080)), source_index=source))

    first = look(sink, "?side=480&source=0")
    write(0)
    write(1)
    assert encoded == [(480, 270)], "and none of a source that nobody looks at"
    second = look(sink, "?side=640")
    write(0)
    write(1)
    assert encoded[1:] == [(640, 360), (640, 360)]
    assert [second.frame()[0]["source_index"] for _ in range(2)] == [0, 1]
    assert [first.frame()[0]["source_index"] for _ in range(2)] == [0, 0]
    look(sink, "?side=9999&source=x")
    write(0)
    assert encoded[3:] == [(960, 540)], "never larger than the settings say"


def test_a_viewer_that_reads_nothing_holds_nobody_up_and_gets_no_old_frames(look):
    sink = WebSink(ANY_PORT, settings=PageSettings(fps=10_000))
    slow = look(sink)
    result = sink_result(size=(960, 960))
    result.frame.image[:] = np.random.default_rng(0).integers(0, 255, result.frame.image.shape)
    start = time.process_time()
    last = 60
    for sequence in range(last + 1):
        sink.write(replace(result, frame=type(result.frame)((result.frame.image,), sequence, 0, "memory")))
    assert time.process_time() - start < 20
    seen = [slow.frame()[0]["frame"]]
    while seen[-1] != last:
        seen.append(slow.frame()[0]["frame"])
    assert seen == sorted(seen) and len(seen) < last / 2, "most were skipped"
    sink.close()


def test_more_frames_than_the_page_wants_are_thinned_out(look, monkeypatch):
    """A camera of 50 frames a second that is now early, now late, for a page that wants 25; then one of 20."""
    encoded = counted(monkeypatch)
    sink = WebSink(ANY_PORT, settings=PageSettings(fps=25))
    look(sink)
    clock = [100.0]
    monkeypatch.setattr("edgedet.runtime.sinks.web.web_sink.time", SimpleNamespace(monotonic=lambda: clock[0]))
    for sequence in range(100):
        clock[0] = 100 + sequence * 0.02 + (-1) ** sequence * 0.003
        sink.write(sink_result(sequence))
    assert len(encoded) == 50
    for sequence in range(20):
        clock[0] = 105 + sequence * 0.05
        sink.write(sink_result(sequence))
    assert len(encoded) == 70
    sink.close()


def test_the_end_is_said_to_those_who_look(look):
    sink = WebSink(ANY_PORT)
    viewer = look(sink)
    sink.close()
    sink.close()
    assert viewer.record()[0] == {"goodbye": True}
    assert viewer.file.read() == b""
    with pytest.raises(ConnectionRefusedError):
        get(sink, "/")


def test_no_thread_is_left(look):
    before = threading.active_count()
    sink = WebSink(ANY_PORT)
    look(sink)
    sink.close()
    wait_until(lambda: threading.active_count() <= before)


def test_more_viewers_than_there_is_room_for_are_told(sink: WebSink, look):
    for _ in range(16):
        look(sink)
    assert get(sink, "/stream")[0] == 503


def test_pixels_are_left_to_the_camera_while_nobody_looks(sink: WebSink, look):
    with SinkRunner([sink], live=True) as runner:
        unseen = sink_result(1)
        runner.write(unseen)
        assert unseen.frame.planes == ()
        viewer = look(sink)
        runner.write(sink_result(2))
        assert viewer.frame()[0]["frame"] == 2


def semantic(width: int, height: int) -> ClassMap:
    class_id = np.zeros((height, width), np.uint8)
    class_id[:, width // 2 :] = 1
    return ClassMap(class_id, ("road", "sky"))


def panoptic(width: int, height: int) -> PanopticMap:
    segment_id = np.zeros((height, width), np.int32)
    segment_id[: height // 2] = 70_000
    return PanopticMap(segment_id, (Segment(70_000, 1, True, 0.9, width * height // 2),), ("road", "car"))


@pytest.mark.parametrize("make", [semantic, panoptic])
def test_maps_are_drawn_into_the_picture_at_its_own_size(make):
    """The map of the small picture is the large one's, seen from further away."""
    result = replace(sink_result(size=(1280, 720)), answer=make(1280, 720))
    small = decoded(picture_jpeg(result, 640))
    grey = np.full((360, 640, 3), 128, np.uint8)
    grey[:] = result.frame.image[0, 0]
    expected = annotate(cv2.resize(result.frame.image, (640, 360), interpolation=cv2.INTER_AREA), make(640, 360))
    assert small.shape == (360, 640, 3) and np.abs(small.astype(int) - expected).mean() < 4


def test_a_record_of_a_map_says_what_is_in_it(sink: WebSink, look):
    viewer = look(sink)
    sink.write(replace(sink_result(size=(64, 48)), answer=semantic(64, 48)))
    sink.write(replace(sink_result(size=(64, 48)), answer=panoptic(64, 48), source_index=1))
    for _ in range(2):
        head = viewer.frame()[0]
        wanted = ("classes", semantic) if head["source_index"] == 0 else ("segments", panoptic)
        assert head["kind"] == wanted[0]
        items = [{key: value for key, value in item.items() if key != "colour"} for item in head["items"]]
        assert items == wanted[1](64, 48).to_json()


def test_detections_without_names_have_a_colour(sink: WebSink, look):
    viewer = look(sink)
    sink.write(replace(sink_result(), answer=Detections.empty()))
    assert viewer.frame()[0]["items"] == []
