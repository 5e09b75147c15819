"""What R-CNN, Fast R-CNN and Faster R-CNN take for a picture, with one backbone, in seconds.

The networks are the trained examples (``examples/models``), exported by edgedet; all three look at the digits of
``examples/digits/images`` through the same layers up to stride 16. What differs is what the papers changed:

- R-CNN warps each proposed region to 224x224 and runs the backbone for each of them (on halved squares).
- Fast R-CNN runs the backbone once for the picture and pools its features for each proposed region.
- Faster R-CNN proposes its 100 regions itself, from the same features.

The first two's proposals are those of selective search in two settings: ``default``, edgedet's own, which finds some
hundreds of regions in these pictures; and ``2000``, with more colour spaces and scales, for the papers' 2,000 regions
(where a picture has fewer, the first ones are looked at again). Each system runs in a process of its own, and they take
turns. Beside them stand the seconds of the lecture that names the three, measured on a GPU with VGG-16.

    python benchmarks/rcnn_variants.py --json rcnn.json
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from processes import Part, Turn, keep_to, serve
from report import environment, median, show, write_report
from rich.table import Table

import edgedet
from edgedet.runtime.capture import read_image
from edgedet.runtime.detector import Detector, Prepared
from edgedet.runtime.preprocess import Placement, Preprocessor
from edgedet.runtime.proposal_detector import ProposedPicture
from edgedet.runtime.proposals import RegionWarper, SelectiveSearch

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CROPS = 32
"""Warped regions that R-CNN's network looks at in one run."""
STAGES = ("proposals", "network", "postprocess")

FloatArray = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class System:
    """An archive of ``examples/models``, the lecture's seconds a picture, and what the export fixes the batch to."""

    archive: str
    lecture: str
    batch: int = 1


@dataclass(frozen=True)
class Setting:
    """Selective search with these parameters, and how many regions are looked at in any case (0: as many as found)."""

    search: SelectiveSearch = field(default_factory=SelectiveSearch)
    regions: int = 0


SYSTEMS: Mapping[str, System] = {
    "R-CNN": System("rcnn", "40 to 50", CROPS),
    "Fast R-CNN": System("fast_rcnn", "2"),
    "Faster R-CNN": System("faster_rcnn", "0.2"),
}
SETTINGS: Mapping[str, Setting] = {
    "default": Setting(),
    "2000": Setting(SelectiveSearch(colours=("hsv", "lab", "bgr"), scales=(50.0, 100.0, 200.0), min_size=20), 2000),
}


def main() -> None:
    """Measure all systems and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each system on each picture")
    parser.add_argument("--pictures", type=int, default=4, help="how many pictures")
    parser.add_argument("--threads", type=int, default=2, help="processors and threads")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--tries", type=int, default=5, help="how often to repeat a turn that other programs disturb")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        _contest(*arguments.part)
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {name: _measure(Path(folder), name, arguments) for name in arguments.settings}
    report = {
        "environment": environment(arguments.threads),
        "pictures": arguments.pictures,
        "lecture_seconds": {name: system.lecture for name, system in SYSTEMS.items()},
        "settings": settings,
    }
    show(_table(report))
    write_report(arguments.json, report)


class Contestant:
    """A detector whose stages are timed one by one."""

    def __init__(self, model: Path, setting: Setting, pictures: int, threads: int) -> None:
        self.detector: Detector[Any] = edgedet.load(model, threads=threads)
        self.setting = setting
        files = sorted((EXAMPLES / "digits" / "images").glob("*.jpg"))[:pictures]
        self.images = [read_image(file) for file in files]
        self._one(0)  # the first run of a network allocates

    def __call__(self, index: int) -> dict[str, float]:
        """Return the seconds of each stage for one picture, how many regions there were and how many objects."""
        return self._one(index)

    def _one(self, index: int) -> dict[str, float]:
        image, stamps = self.images[index], [time.perf_counter()]
        regions = self._propose(image)
        stamps.append(time.perf_counter())
        raw = self.detector.infer(self._prepare(image, regions))
        stamps.append(time.perf_counter())
        (found,) = self.detector.postprocess(raw)
        stamps.append(time.perf_counter())
        seconds = dict(zip(STAGES, np.diff(stamps).tolist(), strict=True))
        return {**seconds, "regions": len(regions) or len(raw.outputs[0][0]), "objects": len(found)}

    def _propose(self, image: Image) -> FloatArray:
        if self.detector.spec.proposals is None:
            return np.zeros((0, 4), np.float32)
        regions = self.setting.search(image, self.detector.spec.proposals.count)
        return np.resize(regions, (self.setting.regions or len(regions), 4))

    def _prepare(self, image: Image, regions: FloatArray) -> Prepared:
        """What ``ProposalDetector.preprocess`` makes of a picture, but of these regions."""
        spec = self.detector.spec
        if spec.proposals is None:
            return self.detector.preprocess([image])
        if spec.proposals.feed == "boxes":
            return ProposedPicture(*Preprocessor(spec.input)([image]), image, regions)
        height, width = image.shape[:2]
        first = RegionWarper(spec.input, spec.proposals.context)(image, regions[: spec.input.batch])
        return ProposedPicture(first, [Placement(width, height, 0, 0, width, height)], image, regions)


def _contest(model: str, setting: str, pictures: str, threads: str) -> None:
    """Be one system, in a process of its own."""
    keep_to(int(threads))
    serve(Contestant(Path(model), SETTINGS[setting], int(pictures), int(threads)))


def _measure(folder: Path, setting: str, arguments: argparse.Namespace) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        parts = {name: stack.enter_context(_start(folder, name, setting, arguments)) for name in SYSTEMS}
        turns: dict[str, list[Turn]] = {name: [] for name in SYSTEMS}
        for _ in range(arguments.rounds):
            for index in range(arguments.pictures):
                for name, part in parts.items():
                    turns[name].append(part.turn(index, arguments.tries))
    return {name: _summary(found) for name, found in turns.items()}


def _start(folder: Path, name: str, setting: str, arguments: argparse.Namespace) -> Part:
    system = SYSTEMS[name]
    model = folder / f"{system.archive}.onnx"
    if not model.exists():
        edgedet.export_model(EXAMPLES / "models" / f"{system.archive}.pt", model, batch=system.batch)
    options = [str(model), setting, str(arguments.pictures), str(arguments.threads)]
    return Part(name, ["--part", *options], folder, arguments.threads)


def _summary(turns: list[Turn]) -> dict[str, Any]:
    """Medians over all turns: of each stage, and of the whole."""
    seconds = {f"{stage}_s": median([turn.answer[stage] for turn in turns]) for stage in STAGES}
    return {
        **seconds,
        "total_s": median([sum(turn.answer[stage] for stage in STAGES) for turn in turns]),
        "regions": median([turn.answer["regions"] for turn in turns]),
        "objects": median([turn.answer["objects"] for turn in turns]),
        "runs": len(turns),
        "foreign_share": median([turn.foreign for turn in turns]),
    }


def _table(report: dict[str, Any]) -> Table:
    processors = report["environment"]["processors_used"]
    table = Table(title=f"Seconds a picture, {processors} processor{'s' if processors > 1 else ''}")
    for column in ("", "search", "regions", *STAGES, "total", "lecture (GPU, VGG-16)", "others"):
        table.add_column(column, justify="right")
    for setting, systems in report["settings"].items():
        for name, values in systems.items():
            table.add_row(
                name,
                "none" if name == "Faster R-CNN" else setting,
                f"{values['regions']:,.0f}",
                *(f"{values[f'{stage}_s']:.3f}" for stage in STAGES),
                f"{values['total_s']:.3f}",
                report["lecture_seconds"][name],
                f"{values['foreign_share']:.0%}",
            )
    return table


if __name__ == "__main__":
    main()
