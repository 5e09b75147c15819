from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.class_names import class_names
from edgedet.errors import SinkError, SpecError
from edgedet.maps import ClassMap, PanopticMap, Segment
from edgedet.results import Detections
from edgedet.runtime.capture import Frame, open_source
from edgedet.runtime.sinks import SINKS, image_ids, map_names
from edgedet.runtime.sinks.json_lines import JsonLinesSink
from edgedet.runtime.sinks.maps import MapFolderSink
from edgedet.runtime.stream import Latencies, StreamResult

NAMES = ("background", "café")


def result(answer, sequence: int = 0, name: str = "a.jpg") -> StreamResult:
    frame = Frame((np.zeros((4, 6, 3), np.uint8),), sequence, 0, name)
    return StreamResult(frame, answer, Latencies(), 0)


def class_map(dtype: type = np.uint8, classes: int = 2) -> ClassMap:
    class_id = np.zeros((4, 6), dtype)
    class_id[1] = classes - 1
    return ClassMap(class_id, NAMES if classes == 2 else tuple(map(str, range(classes))))


def panoptic_map() -> PanopticMap:
    segment_id = np.zeros((4, 6), np.int32)
    segment_id[1], segment_id[2] = 5, 70_000
    segments = (Segment(5, 1, is_thing=True, score=0.5, area=6), Segment(70_000, 0, is_thing=False, score=1.0, area=6))
    return PanopticMap(segment_id, segments, NAMES)


def sink(folder: Path) -> MapFolderSink:
    return MapFolderSink(folder, lambda frame: f"{Path(frame.name).stem}.png", lambda frame: frame.sequence)


@pytest.mark.parametrize(("dtype", "classes"), [(np.uint8, 2), (np.uint16, 1000)])
def test_class_ids_come_back_as_they_were(tmp_path: Path, dtype, classes):
    answer, out = class_map(dtype, classes), sink(tmp_path / "maps")
    assert out.wrote is None
    assert out.write(result(answer))
    out.close()
    read = cv2.imread(str(tmp_path / "maps/a.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == dtype and np.array_equal(read, answer.class_id)
    assert class_names(str(tmp_path / "maps/classes.json")) == answer.class_names
    assert out.wrote == f"'{tmp_path / 'maps'}/'"


def test_segments_come_back_through_panopticapi_s_formula(tmp_path: Path):
    out = sink(tmp_path)
    answer = panoptic_map()
    for sequence, name in enumerate(("a.jpg", "b.jpg")):
        out.write(result(answer, sequence, name))
    out.close()
    red, green, blue = cv2.split(cv2.cvtColor(cv2.imread(str(tmp_path / "b.png")), cv2.COLOR_BGR2RGB).astype(int))
    assert np.array_equal(red + 256 * green + 256 * 256 * blue, answer.segment_id)
    table = json.loads((tmp_path / "panoptic.json").read_text())
    assert table["categories"] == [{"id": 0, "name": "background"}, {"id": 1, "name": "café"}]
    assert [(row["image_id"], row["file_name"]) for row in table["annotations"]] == [(0, "a.png"), (1, "b.png")]
    assert table["annotations"][1]["segments_info"] == [
        {"id": 5, "category_id": 1, "isthing": 1, "score": 0.5, "area": 6},
        {"id": 70_000, "category_id": 0, "isthing": 0, "score": 1.0, "area": 6},
    ]


def test_a_map_without_segments_has_a_row(tmp_path: Path):
    out = sink(tmp_path)
    out.write(result(PanopticMap(np.zeros((4, 6), np.int32), (), NAMES)))
    out.close()
    assert json.loads((tmp_path / "panoptic.json").read_text())["annotations"][0]["segments_info"] == []


def test_sources_are_never_overwritten(tmp_path: Path):
    picture = tmp_path / "a.png"
    assert cv2.imwrite(str(picture), np.zeros((4, 6, 3), np.uint8))
    before = picture.read_bytes()
    with pytest.raises(SinkError, match="beside its source"):
        sink(tmp_path).write(result(class_map(), name=str(picture)))
    assert picture.read_bytes() == before


def test_boxes_are_no_map(tmp_path: Path):
    with pytest.raises(SpecError, match="answers with maps"):
        sink(tmp_path).write(result(Detections.empty()))


def test_a_file_in_the_way_is_found_out_at_once(tmp_path: Path):
    (tmp_path / "maps").write_text("")
    with pytest.raises(SinkError, match="a folder for the maps"):
        sink(tmp_path / "maps")


def test_names_of_pictures_and_frames(tmp_path: Path):
    for name in ("x/a.jpg", "x/b.jpg", "y/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), np.zeros((4, 6, 3), np.uint8))
    source = open_source(str(tmp_path / "*/*"))
    named = map_names(source)
    names = []
    while (frame := source.read()) is not None:
        names.append(named(frame))
    assert names == ["a_0.png", "b.png", "a_2.png"]


def test_names_of_video_frames(tmp_path: Path):
    import videos

    source = open_source(str(videos.write_video(tmp_path / "street.avi", 3)))
    named = map_names(source)
    assert [named(frame) for frame in (source.read(), source.read())] == ["street_000000.png", "street_000001.png"]
    source.close()
    assert image_ids(source)(result(class_map(), 7).frame) == 7


@pytest.mark.parametrize(
    ("answer", "key"), [(class_map(), "classes"), (panoptic_map(), "segments"), (Detections.empty(), "detections")]
)
def test_json_lines_say_what_the_map_holds(tmp_path: Path, answer, key):
    maps = sink(tmp_path / "maps")
    out = JsonLinesSink(tmp_path / "out.jsonl", lambda result: maps.path(result.frame))
    out.write(result(answer))
    out.close()
    line = json.loads((tmp_path / "out.jsonl").read_text())
    assert line[key] == answer.to_json()
    assert line["map"] == str(tmp_path / "maps/a.png")


def test_the_sink_is_in_the_table():
    assert SINKS["maps"] is MapFolderSink
