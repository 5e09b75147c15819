"""Archives of the examples: what is saved is what runs, and nothing local goes along."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import archive
import pytest
import torch
from networks.backbone import ConvUnit
from networks.recipe import Recipe
from networks.ssd import RECIPE
from torch import nn
from torch.export import Dim

SIDE = 32


def tiny_recipe() -> Recipe:
    return dataclasses.replace(
        RECIPE,
        name="tiny",
        describe=lambda _: archive.describe("tiny", {"name": "dense_boxes", "parameters": {}}, SIDE, "detect", ("a",)),
        sample=lambda _: (torch.zeros(2, 3, SIDE, SIDE),),
        dynamic_shapes=({0: Dim("batch", min=1)},),
    )


def tiny_network() -> nn.Module:
    """Channels last and with batch norms that do something, as after training."""
    torch.manual_seed(0)
    network = nn.Sequential(ConvUnit(3, 4), ConvUnit(4, 5))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for _ in range(3):
        network(torch.rand(2, 3, SIDE, SIDE) * 3)
    return network


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "new" / "tiny.pt"
    size = archive.save_archive(tiny_recipe(), tiny_network(), path)
    assert size == path.stat().st_size
    return path


@pytest.mark.parametrize("batch", [1, 3])
def test_an_archive_runs_as_the_network_did(saved: Path, batch: int) -> None:
    module, _ = archive.load_archive(saved)
    pictures = torch.rand(batch, 3, SIDE, SIDE)
    network = tiny_network().eval()
    with torch.no_grad():
        torch.testing.assert_close(module(pictures), network(pictures), atol=1e-5, rtol=1e-4)


def test_an_archive_carries_its_description(saved: Path) -> None:
    _, description = archive.load_archive(saved)
    assert description["class_names"] == ["a"] and description["task"] == "detect"
    assert description["input"] == archive.picture_input(SIDE)
    assert description["input"]["std"] == [255, 255, 255] and description["input"]["resize"] == "letterbox"


def test_batch_norms_are_folded_away(saved: Path) -> None:
    names = set(torch.export.load(saved).state_dict)
    assert names == {f"{unit}.conv.{kind}" for unit in (0, 1) for kind in ("weight", "bias")}


def test_no_local_path_goes_along(saved: Path, root: Path) -> None:
    with zipfile.ZipFile(saved) as content:
        for name in content.namelist():
            assert str(root).encode() not in content.read(name)


def test_saving_changes_no_network() -> None:
    network = tiny_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    archive.export_network(tiny_recipe(), network)
    assert network.training and network.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_missing_archive_names_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train\.py"):
        archive.load_archive(tmp_path / "none.pt")
