"""The convolutional sliding window against the sliding window itself: a crop at each place, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from candidate_rows import Row, assert_same_candidates, tensor

from edgedet.errors import SpecError
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.class_windows import ClassWindows
from edgedet.runtime.selection import Selection

torch = pytest.importorskip("torch")


def classifier() -> torch.nn.Sequential:
    """The lecture's: 14 x 14 pixels -> 5 x 5 convolution -> pooling -> fully connected layers as convolutions."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(3, 8, 5),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 16, 5),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 4, 1),
    ]
    return torch.nn.Sequential(*layers).eval()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("background", [None, 0, 3])
@pytest.mark.parametrize(
    "selection", [Selection(0.3), Selection(0.2, multi_label=True), Selection(0.25, class_ids=(1,))]
)
def test_is_the_classifier_on_each_crop(layout: str, background: int | None, selection: Selection) -> None:
    network, picture = classifier(), torch.randn(1, 3, 20, 28) * 3
    head = ClassWindows((14, 14), (2, 2), layout=layout, background=background)
    with torch.no_grad():
        field = network(picture).numpy()
    output = np.moveaxis(field, 1, -1) if layout == "NHWC" else field
    names = 4 if background is None else 3
    head.check([tensor(*output.shape)], names, (28, 20))
    rows: list[Row] = []
    for top in range(0, 20 - 14 + 1, 2):
        for left in range(0, 28 - 14 + 1, 2):
            with torch.no_grad():
                logits = network(picture[:, :, top : top + 14, left : left + 14]).flatten()
            scores = torch.softmax(logits, dim=0).tolist()
            if background is not None:
                del scores[background]
            passing = [
                (score, class_id)
                for class_id, score in enumerate(scores)
                if score >= selection.confidence and (selection.class_ids is None or class_id in selection.class_ids)
            ]
            for score, class_id in passing if selection.multi_label else sorted(passing)[-1:]:
                rows.append((left, top, left + 14, top + 14, score, class_id))
    assert_same_candidates(head.decode([output[0]], (28, 20), selection), rows)


def test_padding_moves_the_first_window() -> None:
    head = ClassWindows((16, 8), (8, 4), first=(-8, -4), class_activation="none")
    output = np.zeros((1, 4, 4), np.float32)
    head.check([tensor(1, 1, 4, 4)], 1, (24, 12))
    output[0, 0, 0] = output[0, 3, 2] = 0.9
    found = head.decode([output], (24, 12), Selection(0.5))
    assert found.xyxy.tolist() == [[-8, -4, 8, 4], [8, 8, 24, 16]]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 4, 7), r"8 columns of windows in an input of 28x20 .* got 7"),
        ((1, 4, 8, 4), r"8 columns of windows"),
        ((1, 5, 4, 8), r"4 = 4 class scores for 4 class names .* got 5"),
        ((1, 4, 32), r"4 axes \(batch, classes, rows, columns\)"),
    ],
)
def test_check_refuses(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ClassWindows((14, 14), (2, 2)).check([tensor(*shape)], 4, (28, 20))


def test_spec_round_trip_and_bad_parameters() -> None:
    head = ClassWindows((14, 16), (2, 4), (-1, 0), "NHWC", "sigmoid", 2)
    assert head_from_spec(head.spec()) == head
    with pytest.raises(SpecError, match=r"head\.stride"):
        ClassWindows((14, 14), (0, 2))
    with pytest.raises(SpecError, match=r"head\.window"):
        ClassWindows((14, 0), (2, 2))
