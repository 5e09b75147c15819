from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgedet.class_names import CITYSCAPES, COCO, COCO91, VOC, VOC21, class_names, fit_class_names
from edgedet.errors import DatasetError, MissingDependencyError, SpecError


def test_coco_is_the_published_list(shared: Path) -> None:
    assert list(COCO) == json.loads((shared / "coco/names.json").read_text())


def test_known_lists_have_the_published_sizes() -> None:
    assert len(COCO) == len(set(COCO)) == 80
    assert len(VOC) == len(set(VOC)) == 20
    assert len(COCO91) == 91
    assert len(VOC21) == 21
    assert len(CITYSCAPES) == len(set(CITYSCAPES)) == 19


@pytest.mark.parametrize(
    ("category_id", "name"),
    [(0, "background"), (1, "person"), (11, "fire hydrant"), (12, "N/A"), (13, "stop sign"), (90, "toothbrush")],
)
def test_coco91_is_indexed_by_category_id(category_id: int, name: str) -> None:
    assert COCO91[category_id] == name


def test_voc21_is_the_list_of_torchvision() -> None:
    meta = pytest.importorskip("torchvision.models._meta")
    assert list(VOC21[1:]) == meta._VOC_CATEGORIES[1:]


def test_coco91_is_the_list_of_torchvision() -> None:
    meta = pytest.importorskip("torchvision.models._meta")
    ours = ["N/A" if name == "background" else name for name in COCO91]
    assert ours == ["N/A" if name == "__background__" else name for name in meta._COCO_CATEGORIES]


@pytest.mark.parametrize(
    ("text", "names"), [("coco", COCO), ("COCO91", COCO91), ("voc", VOC), ("voc21", VOC21), ("cityscapes", CITYSCAPES)]
)
def test_lists_go_by_name(text: str, names: tuple[str, ...]) -> None:
    assert class_names(text) == names


@pytest.mark.parametrize(
    ("file", "content", "names"),
    [
        ("a.txt", "cat\nhot dog\n\n", ("cat", "hot dog")),
        ("a.names", "\ufeffcat\r\ndog\r\n", ("cat", "dog")),
        ("a.json", '["cat", "dog"]', ("cat", "dog")),
        ("a.json", '{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("a.json", '{"names": {"0": "cat", "2": "dog"}}', ("cat", "N/A", "dog")),
        ("a.json", '{"architectures": [], "id2label": {"0": "cat", "1": "dog"}}', ("cat", "dog")),
        ("a.json", '{"categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]}', ("cat", "dog")),
        ("a.yaml", "val: images\nnames: [no, on, 7]\n", ("no", "on", "7")),
        ("a.yml", "names:\n  0: cat\n  1: dog\n", ("cat", "dog")),
    ],
)
def test_names_are_read_from_files(tmp_path: Path, file: str, content: str, names: tuple[str, ...]) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert class_names(str(tmp_path / file)) == names


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.txt", b"", "an empty file"),
        ("a.txt", b"cat\n\ndog\n", "an empty line 2"),
        ("a.txt", b"\xff\xfe\x00", "UTF-8 text"),
        ("a.json", b"[", "JSON in"),
        ("a.json", b"3", "int 3"),
        ("a.json", b"[]", "list"),
        ("a.json", b'["cat", null]', "a list with None"),
        ("a.json", b'{"cat": 0}', "an object with the keys cat"),
        ("a.json", b'{"-1": "cat"}', "ids from -1"),
        ("a.json", b'{"999999999": "cat"}', "ids from 999999999"),
        ("a.yaml", b"names: [cat", "YAML in"),
        ("a.yaml", b"nc: cat", "an object with the keys nc"),
    ],
)
def test_files_without_names_are_refused(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        class_names(str(tmp_path / file))
    assert file in str(caught.value)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(DatasetError, match="voc, voc21, cityscapes, or a file of class names, got 'cocoo'"):
        class_names("cocoo")


def test_yaml_without_its_package_says_how_to_add_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    (tmp_path / "a.yaml").write_text("names: [cat]")
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgedet\[eval\]'"):
        class_names(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    ("names", "count", "fitted"),
    [
        (("cat", "dog"), 2, ("cat", "dog")),
        (("background", "cat"), 1, ("cat",)),
        (("__background__", "cat"), 2, ("__background__", "cat")),
        (COCO91, 90, COCO91[1:]),
    ],
)
def test_a_leading_background_is_dropped_where_that_fits(
    names: tuple[str, ...], count: int, fitted: tuple[str, ...]
) -> None:
    assert fit_class_names(names, count) == fitted


@pytest.mark.parametrize(("names", "count"), [(("cat", "dog"), 1), (("cat",), 2), (COCO91, 80)])
def test_names_that_do_not_fit_are_refused(names: tuple[str, ...], count: int) -> None:
    with pytest.raises(SpecError, match=rf"{count} class names.* got {len(names)}"):
        fit_class_names(names, count)
