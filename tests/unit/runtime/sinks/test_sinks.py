from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import videos

from edgedet.errors import SinkError
from edgedet.results import Detections
from edgedet.runtime.capture import Frame, open_source
from edgedet.runtime.sinks import SINKS, default_out, image_ids, open_out
from edgedet.runtime.sinks.coco_results import CocoResultsSink
from edgedet.runtime.sinks.json_lines import JsonLinesSink
from edgedet.runtime.sinks.pictures import PictureFileSink, PictureFolderSink
from edgedet.runtime.sinks.video import VideoFileSink
from edgedet.runtime.sinks.window import WindowSink
from edgedet.runtime.stream import Latencies, StreamResult


def result(
    sequence: int = 0, name: str = "memory", *, timestamp_ns: int = 0, size=(64, 48), objects: int = 2
) -> StreamResult:
    frame = Frame((videos.numbered_frame(sequence, *size),), sequence, timestamp_ns, name)
    found = Detections(
        np.array([[1.5, 2, 30, 40], [5, 6, 20.25, 30]], np.float32)[:objects],
        np.array([0.9, 0.5], np.float32)[:objects],
        np.array([1, 0], np.int64)[:objects],
        ("cat", "dog"),
    )
    return StreamResult(frame, found, Latencies(), 0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_picture_is_the_annotated_one(tmp_path: Path):
    sink = PictureFileSink(tmp_path / "out.png")
    assert sink.wrote is None
    assert sink.write(result())
    sink.close()
    assert np.array_equal(cv2.imread(str(tmp_path / "out.png")), result().annotated)
    assert sink.wrote == f"'{tmp_path / 'out.png'}'"
    assert names(tmp_path) == ["out.png"]


def test_pictures_of_equal_names_do_not_overwrite_each_other(tmp_path: Path):
    sink = PictureFolderSink(tmp_path / "out")
    for name in ("x/a.jpg", "x/a.png", "y/a.jpg", "x/b.gif", "y/b.jpg", "x/c.WEBP"):
        sink.write(result(name=name))
    assert names(tmp_path / "out") == ["a.jpg", "a.png", "a_2.jpg", "b.jpg", "b_2.jpg", "c.WEBP"]


def test_second_run_writes_the_same_names(tmp_path: Path):
    for _ in range(2):
        PictureFolderSink(tmp_path / "out").write(result(name="a.jpg"))
    assert names(tmp_path / "out") == ["a.jpg"]


def test_sources_are_never_overwritten(tmp_path: Path):
    picture = tmp_path / "a.png"
    assert cv2.imwrite(str(picture), videos.numbered_frame(0))
    before = picture.read_bytes()
    for sink in (
        PictureFileSink(picture),
        PictureFolderSink(tmp_path),
        PictureFileSink(tmp_path / "../" / tmp_path.name / "a.png"),
    ):
        with pytest.raises(SinkError, match="beside its source"):
            sink.write(result(name=str(picture)))
    assert picture.read_bytes() == before
    video = videos.write_video(tmp_path / "v.mp4", 3)
    with pytest.raises(SinkError, match="beside its source"):
        VideoFileSink(video).write(result(name=str(video)))
    assert len(videos.read_video(video)[1]) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi"])
@pytest.mark.parametrize("fps", [25.0, 29.97, 23.976])
def test_video_keeps_rate_and_frames(tmp_path: Path, suffix, fps):
    path = tmp_path / f"out{suffix}"
    sink = VideoFileSink(path, fps)
    for sequence in range(7):
        sink.write(result(sequence, objects=0))
    assert sink.wrote is None and not path.exists()
    sink.close()
    sink.close()
    rate, frames = videos.read_video(path)
    assert rate == pytest.approx(fps, abs=0.002)
    assert [videos.frame_number(image) for image in frames] == list(range(7))
    assert names(tmp_path) == [path.name] and sink.wrote == f"'{path}'"


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_odd_sizes_are_made_even(tmp_path: Path, suffix):
    path = tmp_path / f"out{suffix}"
    sink = VideoFileSink(path)
    sink.write(result(size=(65, 47)))
    sink.close()
    assert videos.read_video(path)[1][0].shape == (48, 66, 3)


def test_real_time_video_repeats_pictures_for_dropped_frames(tmp_path: Path):
    path = tmp_path / "out.avi"
    sink = VideoFileSink(path, 10, real_time=True)
    start = 5_000_000_000
    for sequence, milliseconds in enumerate((0, 100, 400, 410, 500)):
        sink.write(result(sequence, timestamp_ns=start + milliseconds * 1_000_000, objects=0))
    sink.close()
    assert [videos.frame_number(image) for image in videos.read_video(path)[1]] == [0, 1, 2, 2, 2, 4]


def test_video_without_frames_leaves_nothing(tmp_path: Path):
    VideoFileSink(tmp_path / "out.mp4").close()
    assert names(tmp_path) == []


def test_video_ends_while_the_disk_has_room_for_its_index(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("edgedet.runtime.sinks.video._FREE_SPACE_BYTES", 1 << 62)
    sink = VideoFileSink(tmp_path / "out.mp4")
    with pytest.raises(SinkError, match="the video ends after 50 frames"):
        for sequence in range(60):
            sink.write(result(sequence))
    assert len(videos.read_video(tmp_path / "out.mp4")[1]) == 50


def test_change_of_size_is_an_error_and_keeps_what_was_written(tmp_path: Path):
    sink = VideoFileSink(tmp_path / "out.mp4")
    sink.write(result())
    with pytest.raises(SinkError, match="frames of one size, 64x48, got 32x48 in frame 1"):
        sink.write(result(1, size=(32, 48)))
    sink.close()
    assert len(videos.read_video(tmp_path / "out.mp4")[1]) == 1


def test_json_lines(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(path)
    sink.write(result(3, "street.mp4", timestamp_ns=120_000_000))
    sink.write(result(4, "street.mp4", timestamp_ns=160_000_000, objects=0))
    assert not path.exists()
    sink.close()
    first, second = map(json.loads, path.read_text().splitlines())
    assert {key: first[key] for key in ("frame", "timestamp", "source", "width", "height")} == {
        "frame": 3,
        "timestamp": 0.12,
        "source": "street.mp4",
        "width": 64,
        "height": 48,
    }
    assert first["detections"][0] == {"box": [1.5, 2, 30, 40], "score": 0.9, "class_id": 1, "class_name": "dog"}
    assert (second["frame"], second["detections"]) == (4, [])


def test_numbers_that_json_cannot_say_are_an_error_and_keep_the_lines_before(tmp_path: Path):
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    sink.write(result(0))
    bad = result(1)
    bad.detections.xyxy[0, 0] = np.nan
    with pytest.raises(SinkError, match="NaN or infinity"):
        sink.write(bad)
    sink.close()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_json_lines_to_standard_output_come_at_once(capsys):
    sink = JsonLinesSink("-")
    sink.write(result())
    assert json.loads(capsys.readouterr().out)["frame"] == 0
    sink.close()
    assert sink.wrote is None


def test_json_lines_into_a_pipe_end_when_nobody_reads(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonLinesSink(tmp_path / "pipe")
    assert sink.write(result())
    assert json.loads(os.read(reader, 1 << 16))["frame"] == 0
    os.close(reader)
    assert not sink.write(result())
    sink.close()
    assert (tmp_path / "pipe").is_fifo()


def test_coco_results_load_in_pycocotools(tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "out.json"
    sink = CocoResultsSink(path, lambda frame: frame.sequence)
    for sequence, objects in enumerate((0, 2, 0, 1)):
        sink.write(result(sequence, objects=objects))
    sink.close()
    labelled = coco.COCO()
    labelled.dataset = {
        "images": [{"id": value} for value in range(4)],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [],
    }
    labelled.createIndex()
    loaded = labelled.loadRes(str(path)).dataset["annotations"]
    assert [(record["image_id"], record["category_id"]) for record in loaded] == [(1, 1), (1, 0), (3, 1)]
    assert loaded[0]["bbox"] == [1.5, 2, 28.5, 38]


def test_coco_results_of_nothing_are_an_empty_list(tmp_path: Path):
    CocoResultsSink(tmp_path / "out.json", lambda frame: 0).close()
    assert json.loads((tmp_path / "out.json").read_text()) == []


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        (["000000000139.jpg", "7.png"], [139, 7]),
        (["1.jpg", "01.png"], ["01.png", "1.jpg"]),
        (["1.jpg", "street.jpg"], ["1.jpg", "street.jpg"]),
        (["x/a.jpg", "y/a.jpg"], ["{}/x/a.jpg", "{}/y/a.jpg"]),
    ],
)
def test_image_ids_of_pictures(tmp_path: Path, files, ids):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), videos.numbered_frame(0))
    source = open_source(f"{tmp_path}/**/*.*")
    name_of = image_ids(source)
    expected = [value.format(tmp_path) if isinstance(value, str) else value for value in ids]
    assert [name_of(frame) for frame in iter(source.read, None)] == expected


def test_image_ids_of_a_video_are_frame_numbers(tmp_path: Path):
    source = open_source(videos.write_video(tmp_path / "7.avi", 2))
    name_of = image_ids(source)
    assert [name_of(frame) for frame in iter(source.read, None)] == [0, 1]


def test_window_without_a_screen_is_an_error(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="a screen for --show"):
        WindowSink("edgedet")


@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a screen (for example under xvfb-run)")
def test_window_shows_until_it_is_closed():
    sink = WindowSink("edgedet test")
    assert sink.write(result())
    cv2.destroyWindow("edgedet test")
    sink.close()
    assert sink.wrote is None


@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a screen (for example under xvfb-run)")
def test_a_window_that_is_closed_leaves_the_one_of_another_source():
    first, second = WindowSink("edgedet test a"), WindowSink("edgedet test b")
    assert first.write(result()) and second.write(result())
    first.close()
    first.close()
    assert second.write(result())
    second.close()


OPENERS: dict[str, Callable[[Path], object]] = {
    "picture.png": PictureFileSink,
    "pictures": PictureFolderSink,
    "video.mp4": VideoFileSink,
    "lines.jsonl": JsonLinesSink,
    "coco.json": lambda path: CocoResultsSink(path, lambda frame: 0),
}


@pytest.mark.parametrize("name", OPENERS)
def test_missing_folder_is_said_before_the_work(tmp_path: Path, name):
    with pytest.raises(SinkError, match=r"'.*/none', which does not exist\. Run: mkdir -p"):
        OPENERS[name](tmp_path / "none" / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="which is no folder"):
        OPENERS[name](tmp_path / "file" / name)


@pytest.mark.parametrize("name", OPENERS)
def test_what_is_in_the_way_is_said(tmp_path: Path, name):
    """A file where a folder is wanted, and the other way round."""
    path = tmp_path / name
    path.write_text("") if name == "pictures" else path.mkdir()
    with pytest.raises(SinkError):
        sink = OPENERS[name](path)
        sink.write(result())
        sink.close()
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(("kind", "name"), [("picture", "out.xyz"), ("video", "out.mkv"), ("video", "out")])
def test_unknown_suffix_is_an_error(tmp_path: Path, kind, name):
    with pytest.raises(SinkError, match=r"name that ends with .*Change the suffix"):
        SINKS[kind](tmp_path / name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p/a.png", "a.detected.png"),
        ("p/b.gif", "b.detected.jpg"),
        ("p", "p.detected"),
        ("p/*.png", "p.detected"),
        ("v.avi", "v.detected.mp4"),
    ],
)
def test_default_out(tmp_path: Path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    make_sources()
    source = open_source(text)
    assert default_out(source) == Path(expected)
    assert open_out(default_out(source), source)


@pytest.mark.parametrize(
    ("text", "out", "kind"),
    [
        ("p/a.png", "o.jpg", PictureFileSink),
        ("p/a.png", "p", PictureFileSink),
        ("p", "o", PictureFolderSink),
        ("p", "o.v2", PictureFolderSink),
        ("p/*.png", "o", PictureFolderSink),
        ("v.avi", "o.avi", VideoFileSink),
        ("v.avi", "p", VideoFileSink),
        ("p", "o.jpg", None),
        ("p", "v.avi", None),
        ("v.avi", "o.jpg", None),
        ("p/a.png", "o.mp4", None),
    ],
)
def test_out_fits_the_source_or_is_refused(tmp_path: Path, monkeypatch, text, out, kind):
    monkeypatch.chdir(tmp_path)
    make_sources()
    source = open_source(text)
    if kind is None:
        with pytest.raises(SinkError):
            open_out(out, source)
    else:
        assert type(open_out(out, source)) is kind


def make_sources() -> None:
    """In the current folder: pictures in p/ and a video."""
    Path("p").mkdir()
    assert cv2.imwrite("p/a.png", videos.numbered_frame(0))
    Path("p/b.gif").write_bytes(b"GIF89a")
    videos.write_video(Path("v.avi"), 2)
