"""The page in a real browser, fed by the shipped model on the shipped clip, and with results that are known."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import Page, chromium_page
from sink_results import sink_result

import edgedet
from edgedet.cli import demo_command
from edgedet.maps import ClassMap
from edgedet.masks import Mask, Masks
from edgedet.runtime.capture.loop import LoopSource
from edgedet.runtime.drawing import class_colour
from edgedet.runtime.label_places import LabelPlaces
from edgedet.runtime.selection import Selection
from edgedet.runtime.sinks.web import Address, PageSettings, WebSink
from edgedet.runtime.stream import StreamResult

DEMO = Path(demo_command.__file__).parents[1] / "demo"
LIVE = "document.body?.dataset.state === 'live'"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    """The browser's tab, empty again."""
    browser.open("about:blank")
    browser.set_view(1280, 800)
    browser.problems.clear()
    browser.requested.clear()
    return browser


@pytest.fixture(scope="module")
def digits() -> Iterator[WebSink]:
    """A page with digits that runs until the tests end."""
    sink = WebSink(Address(port=0), settings=PageSettings("digits", 0.05, 0.4, fps=10))
    stop = threading.Event()

    def run() -> None:
        model = edgedet.load(DEMO / "digits.int8.onnx", selection=Selection(confidence=0.05), threads=1)
        with model, edgedet.open_stream(model, LoopSource(DEMO / "digits.mp4")) as stream:
            for result in stream:
                sink.write(result)
                if stop.is_set():
                    return

    thread = threading.Thread(target=run)
    thread.start()
    yield sink
    stop.set()
    thread.join()
    sink.close()


@contextlib.contextmanager
def showing(page: Page, *results: StreamResult, port: int = 0, **settings: object) -> Iterator[WebSink]:
    """Serve these results again and again as new frames, and open the page."""
    sink = WebSink(Address(port=port), settings=PageSettings(**settings))
    stop = threading.Event()

    def run() -> None:
        number = 0
        while not stop.wait(0.05):
            number += 1
            for result in results:
                frame = type(result.frame)((result.frame.image,), number, 0, result.frame.name)
                sink.write(replace(result, frame=frame))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        if not port:
            page.open(sink.url)
            page.wait_for(LIVE)
        yield sink
    finally:
        stop.set()
        thread.join()
        sink.close()


def crash(sink: WebSink) -> None:
    """Close the server's sockets as the end of its process would: without a goodbye."""
    assert sink._server is not None
    server = sink._server._server
    server.shutdown()
    server.socket.close()
    for connection in list(server._open):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def text(page: Page, name: str) -> str:
    return page.evaluate(f"document.getElementById('{name}').textContent")


def click(page: Page, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def facts(page: Page, source: int = 0) -> str:
    return page.evaluate(f"document.querySelector('[data-source=\"{source}\"] .facts').textContent")


def wait_for_another_frame(page: Page, source: int = 0) -> None:
    before = facts(page, source)
    page.wait_for(f"document.querySelector('[data-source=\"{source}\"] .facts').textContent !== {json.dumps(before)}")


def set_slider(page: Page, value: float) -> None:
    page.evaluate(
        f"(() => {{ const slider = document.getElementById('threshold'); slider.value = {value};"
        "slider.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def colours(page: Page, colour: tuple[int, int, int]) -> int:
    """How many pixels of the picture have exactly this colour (red, green, blue)."""
    return page.evaluate(
        "(() => { const canvas = document.querySelector('.tile canvas');"
        "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data; let count = 0;"
        f"for (let at = 0; at < data.length; at += 4) count += data[at] === {colour[0]} && data[at + 1] === {colour[1]}"
        f"&& data[at + 2] === {colour[2]}; return count; }})()"
    )


def pause(page: Page) -> None:
    click(page, "#pause")
    # A picture that was being decoded is still shown.
    page.evaluate("new Promise((done) => setTimeout(done, 300))")


def rgb(class_id: int) -> tuple[int, int, int]:
    blue, green, red = class_colour(class_id)
    return red, green, blue


def test_frames_move_and_slider_and_classes_change_the_boxes_at_once(page: Page, digits: WebSink):
    page.open(digits.url)
    page.wait_for("document.querySelector('.tile .facts')?.textContent")
    wait_for_another_frame(page)
    page.wait_for("Number(document.getElementById('fps').textContent) > 1")
    assert text(page, "title") == "digits" and text(page, "state") == "Live"
    assert page.evaluate("document.getElementById('threshold').value") == "0.4"
    page.wait_for("document.querySelector('label[data-name=\"3\"] .number')?.textContent === '1'")
    pause(page)
    assert text(page, "state") == "Paused"
    frame, shown = facts(page), text(page, "count")
    of_threes = rgb(3)
    assert colours(page, of_threes) > 100
    set_slider(page, 1)
    assert text(page, "count").startswith("0 of ") and colours(page, of_threes) == 0
    set_slider(page, 0.4)
    assert text(page, "count") == shown and colours(page, of_threes) > 100
    click(page, 'label[data-name="3"] input')
    assert int(text(page, "count").split()[0]) == int(shown.split()[0]) - 1 and colours(page, of_threes) == 0
    click(page, "#none")
    assert text(page, "count").startswith("0 of ")
    click(page, "#all")
    assert text(page, "count") == shown
    with_labels = colours(page, of_threes)
    click(page, "#labels")
    assert colours(page, of_threes) < with_labels
    click(page, "#labels")
    assert facts(page) == frame, "all of this on one frame"
    click(page, "#pause")
    wait_for_another_frame(page)
    assert page.problems == []
    addresses = {url.split("/")[2] for url in page.requested if url.startswith("http")}
    assert addresses == {f"127.0.0.1:{digits.address.port}"}


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_everything_fits_has_a_name_and_can_be_read(page: Page, digits: WebSink, width, dark):
    page.set_view(width, 800, phone=width < 500, dark=dark)
    page.open(digits.url)
    page.wait_for("document.querySelector('#classes label') !== null && document.getElementById('fps').textContent > 1")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out sideways"
    small = page.evaluate(
        "[...document.querySelectorAll('button, #threshold, #classes label')]"
        ".filter((item) => item.getBoundingClientRect().height < 32).map((item) => item.outerHTML)"
    )
    assert small == [], "large enough for a finger"
    roles = page.accessibility_tree()
    named = {role for role, name in roles if name}
    assert {"slider", "checkbox", "button", "heading", "image"} <= named
    assert not [role for role, name in roles if role in ("slider", "checkbox", "button", "image", "img") and not name]
    assert page.evaluate(CONTRAST) == [], "WCAG 2.2, 1.4.3"


# Texts whose contrast with the nearest background behind them is below 4.5 (the relative luminance of WCAG 2.2).
CONTRAST = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = numbers(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (item) => {
    for (; item; item = item.parentElement) {
      const colour = getComputedStyle(item).backgroundColor;
      if (numbers(colour).length === 3) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const item of document.querySelectorAll("body *")) {
    const own = [...item.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !item.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(item).color), light(behind(item))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(item.outerHTML);
  }
  return low;
})()"""


def test_the_keyboard_reaches_everything_and_shows_where_it_is(page: Page, digits: WebSink):
    page.open(digits.url)
    page.wait_for("document.querySelectorAll('#classes label').length > 2")
    reached = set()
    for _ in range(30):
        page.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.type"))
        if page.evaluate("document.activeElement.id") == "labels":
            break
    assert {"threshold", "all", "none", "checkbox", "pause", "labels"} <= reached
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.evaluate("document.getElementById('threshold').focus()")
    before = text(page, "threshold-value")
    page.press("ArrowRight")
    assert float(text(page, "threshold-value")) == pytest.approx(float(before) + 0.01)


def test_a_server_that_goes_is_told_and_one_that_comes_back_is_read_again(page: Page):
    with showing(page, sink_result()) as sink:
        page.wait_for("document.querySelector('.tile .facts')?.textContent")
        port = sink.address.port
        crash(sink)
        page.wait_for("document.body.dataset.state === 'lost'")
        assert text(page, "state").startswith("No connection, trying again in ")
    with showing(page, sink_result(), port=port):
        page.wait_for(LIVE)
        wait_for_another_frame(page)
    page.wait_for("document.body.dataset.state === 'ended'")
    assert text(page, "state") == "Ended"


def test_a_page_of_another_version_loads_itself_again(page: Page, monkeypatch):
    from edgedet.runtime.sinks.web import server
    from edgedet.runtime.sinks.web.page_files import page_files

    with showing(page, sink_result()) as sink:
        port = sink.address.port
        page.evaluate("window.loaded = 'before'")
    newer = replace(page_files(), version="newer")
    monkeypatch.setattr(server, "page_files", lambda: newer)
    with showing(page, sink_result(), port=port):
        page.wait_for(f"window.loaded === undefined && {LIVE}")


def test_a_camera_that_falls_silent_is_told_while_the_others_go_on(page: Page):
    sink = WebSink(Address(port=0), settings=PageSettings(sources=("gate", "yard")))
    try:
        page.open(sink.url)
        page.wait_for(LIVE)
        for source, name in enumerate(("gate", "yard")):
            sink.write(replace(sink_result(1), source_index=source, source_name=name))
        page.wait_for("[...document.querySelectorAll('.facts')].every((item) => item.textContent)")
        number = 2
        deadline = time.monotonic() + 20
        while not page.evaluate("document.querySelector('[data-source=\"1\"]').classList.contains('stalled')"):
            sink.write(replace(sink_result(number), source_index=0, source_name="gate"))
            number += 1
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert page.evaluate("document.querySelector('[data-source=\"1\"] .stall').textContent").startswith(
            "No new picture for "
        )
        assert page.evaluate("document.querySelector('[data-source=\"0\"] .stall').hidden")
    finally:
        sink.close()


def test_several_sources_stand_beside_each_other_and_one_can_be_looked_at_alone(page: Page):
    names = ("gate", "yard", "dock", "lift")
    results = [
        replace(sink_result(size=(640, 360)), source_index=at, source_name=name) for at, name in enumerate(names)
    ]
    with showing(page, *results, sources=names) as sink:
        page.wait_for("[...document.querySelectorAll('.facts')].every((item) => item.textContent)")
        tabs = "[...document.querySelectorAll('#tabs button')].map((tab) => tab.textContent)"
        assert page.evaluate(tabs) == ["All", *names] and text(page, "count") == "8 of 8 objects"
        corners = page.evaluate("[...document.querySelectorAll('.tile')].map((tile) => tile.getBoundingClientRect().x)")
        assert len(set(corners)) == 2, "two and two"
        assert page.evaluate("document.documentElement.scrollHeight <= window.innerHeight + 1")
        page.wait_for("/^\\d/.test(document.getElementById('dropped').textContent)")
        click(page, "#tabs button:nth-child(3)")
        page.wait_for("document.querySelectorAll('.tile:not([hidden])').length === 1")
        assert page.evaluate("document.querySelector('.tile:not([hidden]) .name').textContent") == "yard"
        assert text(page, "count") == "2 of 2 objects"
        page.wait_for("document.querySelector('[data-source=\"1\"] canvas').width > 600")
        wait_for_another_frame(page, 1)
        wait_until(lambda: sink._broadcast.longest_side(0) == 0)
        assert sink._broadcast.longest_side(1) >= 640, "nothing is sent that is not shown"
        click(page, '[data-source="1"] .screen')
        page.wait_for("document.querySelectorAll('.tile:not([hidden])').length === 4")
        wait_for_another_frame(page, 3)
    assert page.problems == []


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_strangers_are_refused_and_the_token_is_kept_out_of_sight(page: Page):
    sink = WebSink(Address(port=0), "a-secret")
    try:
        page.open(sink.address.url)
        assert "A token is needed" in page.evaluate("document.body.textContent")
        page.evaluate("document.getElementById('token').value = 'wrong'; document.querySelector('form').submit()")
        page.wait_for("document.querySelector('.wrong')?.hidden === false")
        assert sink.viewers == 0
        page.evaluate("document.getElementById('token').value = 'a-secret'; document.querySelector('form').submit()")
        page.wait_for(LIVE)
        assert "secret" not in page.evaluate("location.href + document.cookie")
        page.open("about:blank")
        page.open(sink.address.url)
        page.wait_for(LIVE)
    finally:
        sink.close()


def test_the_address_with_the_token_opens_the_page(page: Page):
    sink = WebSink(Address(port=0), "another-secret")
    try:
        page.open(sink.url)
        page.wait_for(LIVE)
        assert "secret" not in page.evaluate("location.href + document.cookie")
    finally:
        sink.close()


def test_a_hidden_page_costs_nothing(page: Page):
    with showing(page, sink_result()) as sink:
        page.wait_for("document.querySelector('.tile .facts')?.textContent")
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        wait_until(lambda: sink.viewers == 0)
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        wait_until(lambda: sink.viewers == 1)
        wait_for_another_frame(page)


def test_masks_lie_where_the_model_found_them(page: Page):
    """Two thirds of the box of a white 60x40 picture, drawn with the colour of the class at its opacity."""
    bits = np.zeros((40, 60), bool)
    bits[10:30, 5:25] = True
    result = sink_result(size=(60, 40), objects=1)
    result.frame.image[:] = 255
    masks = Masks((Mask.from_bitmap(bits),), 60, 40)
    found = replace(result.detections, xyxy=np.array([[5, 10, 35, 30]], np.float32), masks=masks)
    page.set_view(600, 800)
    with showing(page, replace(result, answer=found), confidence=0.0):
        page.wait_for("document.querySelector('.tile .facts')?.textContent")
        click(page, "#labels")
        inside, outside = (
            page.evaluate(
                "(() => { const canvas = document.querySelector('.tile canvas'); const scale = canvas.width / 60;"
                f"return [...canvas.getContext('2d').getImageData({x} * scale, 20 * scale, 1, 1).data]; }})()"
            )
            for x in (15, 30)
        )
        expected = np.array(rgb(1)) * 0.45 + 255 * 0.55
        assert np.abs(np.array(inside[:3]) - expected).max() <= 4
        assert min(outside[:3]) >= 250


def test_maps_come_drawn_and_tell_their_shares(page: Page):
    class_id = np.zeros((48, 64), np.uint8)
    class_id[:, 16:] = 1
    result = replace(sink_result(), answer=ClassMap(class_id, ("road", "sky")))
    with showing(page, result):
        page.wait_for("document.getElementById('count').textContent === '2 classes'")
        shares = page.evaluate("[...document.querySelectorAll('#classes .number')].map((item) => item.textContent)")
        assert shares == ["25.0 %", "75.0 %"]
        assert page.evaluate("document.getElementById('threshold-row').hidden")
    assert page.problems == []


def test_labels_stand_where_the_pictures_of_files_have_them(page: Page, digits: WebSink):
    """The same places as in Python, for many random boxes."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, (200, 120), (60, 2, 2)), axis=1).reshape(60, 4)
    sizes = rng.integers((20, 8), (50, 16), (60, 2))
    sizes[30] = (210, 125)
    places = LabelPlaces(200, 120, 60)
    expected = [
        list(places.place(tuple(box), *size)) for box, size in zip(corners.tolist(), sizes.tolist(), strict=True)
    ]
    labels = [
        {"box": box, "width": width, "height": height}
        for box, (width, height) in zip(corners.tolist(), sizes.tolist(), strict=True)
    ]
    page.open(digits.url)
    found = page.evaluate(
        f"import('/labels.js').then(({{placeLabels}}) => placeLabels({json.dumps(labels)}, 200, 120)"
        ".map(({left, top}) => [left, top]))"
    )
    assert found == expected
