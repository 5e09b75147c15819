"""What the stages around an engine cost on a GPU, against what moving their bytes takes at the measured bandwidth.

Each stage is queued many times between two events; what is reported is the median over repetitions of the time of one.
The bound of pre-processing is its bytes (the frame read once, the tensor written once) over the bandwidth of a copy on
the same device, measured in the same run, stages and copies taking turns.

    python benchmarks/gpu/stages.py --json stages.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from edgedet.model_spec import InputSpec
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.device_buffer import DeviceBuffer
from edgedet.runtime.cuda.stream import Stream
from edgedet.runtime.gpu.readout import upload_constant
from edgedet.runtime.heads import DenseBoxes
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.decode import Setting, decoder_for
from edgedet.runtime.kernels.detections import placement_rows
from edgedet.runtime.kernels.nms import Nms, NmsRule
from edgedet.runtime.kernels.preprocess import DevicePicture, PreprocessStage
from edgedet.runtime.pixel_formats import PictureFormat
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import environment, show, write_report  # beside this folder

COPY_BYTES = 64 << 20
LOCATIONS, CLASSES = 8400, 80


@dataclass(frozen=True)
class Stage:
    """Something to be queued, and what bounds it.

    Attributes:
        name: in words.
        queue: queues it once.
        moved: bytes that it cannot help to move; 0 where its bound is a time.
        aim: microseconds at most, or the factor over the bound where bytes are said.
    """

    name: str
    queue: Callable[[], None]
    moved: int
    aim: float


def main() -> None:
    """Measure every stage and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--provider", choices=["pycuda", "cuda-bindings"], help="what speaks to CUDA")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each stage")
    parser.add_argument("--queued", type=int, default=50, help="runs between two events")
    arguments = parser.parse_args()
    with Device(provider=arguments.provider) as device:
        stream = device.stream()
        stages = [preprocess(stream, "NV12"), preprocess(stream, "BGR"), *post_process(stream)]
        times = take_turns(device, stream, stages, arguments.rounds, arguments.queued)
        rows = [judge(stage, times[stage.name], times["copy"]) for stage in stages]
        machine = environment(1)
        machine["gpu"] = f"{device.name}, sm_{device.capability[0]}{device.capability[1]}"
        machine["provider"] = device.driver.name
    table = Table("Stage", "us", "Bound, us", "Ratio", "Aim", title="Stages on the GPU")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("stage", "us", "bound_us", "ratio", "aim")))
    show(table)
    write_report(arguments.json, {"environment": machine, "copy_gb_s": rows[0]["copy_gb_s"], "stages": rows})


def preprocess(stream: Stream, pixel_format: str) -> Stage:
    """Return 1080p to a 640x640 float16 tensor."""
    spec = InputSpec(640, 640, dtype="float16")
    picture = PictureFormat(pixel_format, 1920, 1080)  # type: ignore[arg-type]  # one of the two that main names
    sizes = picture.plane_sizes
    planes = [stream.empty((rows, length), np.uint8) for rows, length in sizes]
    for plane in planes:
        stream.fill(plane, 100)
    stage = PreprocessStage(spec, 1, stream.empty)
    source = DevicePicture(picture, tuple(plane.address for plane in planes), tuple(length for _, length in sizes))
    table, _ = stage.table([source])
    stream.upload(_device(stage.pictures), table)
    tensor = stream.empty((1, 3, 640, 640), np.float16)
    moved = sum(rows * length for rows, length in sizes) + tensor.nbytes
    keep = (planes, tensor)
    return Stage(f"1080p {pixel_format} -> 640 FP16", lambda: stage.launch(stream, keep[1]), moved, 2.0)


def post_process(stream: Stream) -> list[Stage]:
    """Return decode and NMS of (84, 8400) with about 300 and with 10,000 candidates."""
    found = []
    for candidates, aim in ((300, 60.0), (10_000, 400.0)):
        selection = Selection(confidence=0.5, iou=0.7, multi_label=candidates > LOCATIONS)
        output = _output(candidates, selection.multi_label)
        buffer = stream.empty(output.shape, np.float32)
        stream.upload(buffer, output)
        stream.synchronize()
        decoder = decoder_for(DenseBoxes(), Setting((640, 640), CLASSES, selection, upload_constant(stream)))
        listed = CandidateList(stream.empty, 1, min(decoder.most_candidates([buffer]), 1 << 16))
        nms = Nms(stream.empty, listed, NmsRule.of(selection, suppress=True))
        rows = placement_rows([Placement(1920, 1080, 0, 140, 640, 360)])
        placements = stream.empty(rows.shape, rows.dtype)
        stream.upload(placements, rows)
        stream.synchronize()

        def queue(
            decoder: Any = decoder, buffer: Any = buffer, listed: Any = listed, nms: Any = nms, at: Any = placements
        ) -> None:
            listed.reset(stream)
            decoder.launch(stream, [buffer], listed)
            nms.run(stream, at)

        found.append(Stage(f"decode + NMS, {candidates} candidates", queue, 0, aim))
    return found


def take_turns(device: Device, stream: Stream, stages: list[Stage], rounds: int, queued: int) -> dict[str, list[float]]:
    """Return the microseconds of one run of each stage, and of a copy, a figure a round."""
    source, target = (stream.empty((COPY_BYTES,), np.uint8) for _ in range(2))
    works = {"copy": lambda: stream.copy(target, source), **{stage.name: stage.queue for stage in stages}}
    times: dict[str, list[float]] = {name: [] for name in works}
    begin, end = device.event(timing=True), device.event(timing=True)
    for turn in range(rounds + 1):
        for name, queue in works.items():
            stream.record(begin)
            for _ in range(queued):
                queue()
            stream.record(end)
            end.synchronize()
            if turn:  # the first loads kernels
                times[name].append(1000 * begin.elapsed_ms(end) / queued)
    return times


def judge(stage: Stage, times: list[float], copies: list[float]) -> dict[str, Any]:
    """Return a row of the table; a copy reads and writes, so its bytes count twice."""
    took = statistics.median(times)
    bandwidth = 2 * COPY_BYTES / statistics.median(copies)  # bytes a microsecond
    bound = stage.moved / bandwidth if stage.moved else stage.aim
    return {
        "stage": stage.name,
        "us": round(took, 2),
        "bound_us": round(bound, 2),
        "ratio": round(took / bound, 3) if bound else None,
        "aim": f"<= {stage.aim:g}x" if stage.moved else f"<= {stage.aim:g} us",
        "copy_gb_s": round(bandwidth / 1000, 1),
    }


def _output(candidates: int, multi_label: bool) -> np.ndarray:
    random = np.random.default_rng(0)
    output = np.zeros((1, 4 + CLASSES, LOCATIONS), np.float32)
    output[:, :2] = random.uniform(0, 640, (1, 2, LOCATIONS))
    output[:, 2:4] = random.uniform(8, 120, (1, 2, LOCATIONS))
    places = random.choice(LOCATIONS * (CLASSES if multi_label else 1), candidates, replace=False)
    location = places % LOCATIONS
    label = places // LOCATIONS if multi_label else random.integers(0, CLASSES, candidates)
    output[0, 4 + label, location] = random.uniform(0.5, 1, candidates)
    return output


def _device(array: Any) -> DeviceBuffer:
    assert isinstance(array, DeviceBuffer)
    return array


if __name__ == "__main__":
    main()
