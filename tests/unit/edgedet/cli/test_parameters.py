"""What the command line takes as sizes, batches, names, anchors and specs; anything else is a usage error."""

from __future__ import annotations

import json

import click
import numpy as np
import pytest

from edgedet.class_names import COCO
from edgedet.cli.parameters import anchors_file, batch_size, class_list, image_size, json_object_file


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (image_size, "640", (640, 640)),
        (image_size, "640x480", (640, 480)),
        (image_size, "1X2", (1, 2)),
        (batch_size, "1", 1),
        (batch_size, "16", 16),
        (batch_size, "dynamic", "dynamic"),
        (class_list, "coco", COCO),
    ],
)
def test_good(kind, text, value):
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(
            (image_size, text)
            for text in ("", "0", "640x0", "x640", "640x", "1x2x3", "-1", "640.5", "640 x 480", "wide")
        ),
        *((batch_size, text) for text in ("", "0", "-1", "1.5", "any", "²")),
        *((class_list, text) for text in ("", "imagenet", "no/such/file.txt")),
        *((anchors_file, text) for text in ("", "no/such.npy", "no/such.json", "anchors.txt")),
        *((json_object_file, text) for text in ("", "no/such.json")),
    ],
)
def test_bad(kind, text):
    with pytest.raises(click.BadParameter, match="Expected"):
        kind(text)


def test_names_from_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert class_list(str(tmp_path / "names.txt")) == ("cat", "dog")


@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_anchors(tmp_path, suffix):
    values = np.arange(12, dtype=np.float64).reshape(3, 4)
    path = tmp_path / f"anchors.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    else:
        path.write_text(json.dumps(values.tolist()))
    found = anchors_file(str(path))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("text", ["", "{}", "[[1, 2], [3]]", '["a"]', "[1, null]", '{"a": 1}'])
def test_anchors_that_are_no_array(tmp_path, text):
    path = tmp_path / "anchors.json"
    path.write_text(text)
    with pytest.raises(click.BadParameter):
        anchors_file(str(path))


def test_pickled_anchors_are_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    np.save(tmp_path / "anchors.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(click.BadParameter):
        anchors_file(str(tmp_path / "anchors.npy"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("text", "good"), [('{"input": {"channels": "BGR"}}', True), ("[]", False), ("{", False), ("3", False)]
)
def test_spec_files(tmp_path, text, good):
    path = tmp_path / "spec.json"
    path.write_text(text)
    if good:
        assert json_object_file(str(path)) == json.loads(text)
    else:
        with pytest.raises(click.BadParameter):
            json_object_file(str(path))
