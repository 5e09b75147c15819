"""Memory of a stream over 10,000 frames, and over many streams opened and closed.

A small network and a small video, so that the frames pass quickly; what could leak (frames, tensors, results, threads,
handles) leaks a frame at a time, whatever its size. Resident memory is sampled a hundred times; after the first
tenth, in which pools and caches fill, it must not rise: the slope of a fitted line and the highest rise are reported.

    python benchmarks/memory.py --json memory.json
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from report import environment, resident_mb, write_report
from scene import write_video
from small_network import small_network

import edgedet
from edgedet.runtime.detector import Detector

SAMPLES = 100


def main() -> None:
    """Run both measurements and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--frames", type=int, default=10_000, help="frames of the long stream")
    parser.add_argument("--streams", type=int, default=300, help="short streams, of ten frames each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(small_network(), folder / "network.onnx")
        write_video(folder / "long.mp4", 320, 180, arguments.frames)
        write_video(folder / "short.mp4", 320, 180, 10)
        with edgedet.load(folder / "network.onnx", threads=1) as detector:
            report = {
                "environment": environment(1),
                "frames": _frames(detector, folder / "long.mp4", max(1, arguments.frames // SAMPLES)),
                "streams": _streams(detector, folder / "short.mp4", arguments.streams),
            }
    write_report(arguments.json, report)


def _frames(detector: Detector, video: Path, step: int) -> dict[str, Any]:
    samples = []
    boxes = frames = 0
    with edgedet.open_stream(detector, video) as stream:
        for result in stream:
            boxes += len(result.detections)
            if frames % step == 0:
                samples.append(resident_mb())
            frames += 1
    summary = {"frames": frames, "boxes_a_frame": round(boxes / frames, 1), **_summary(samples, step)}
    print(
        f"{frames} frames: {summary['start_mb']} MB, at most {summary['rise_mb']:+} MB after warm-up, "
        f"slope {summary['slope_kb_per_1000']:+} kB per 1,000 frames"
    )
    return summary


def _streams(detector: Detector, video: Path, count: int) -> dict[str, Any]:
    samples = []
    for _ in range(count):
        with edgedet.open_stream(detector, video) as stream:
            for _ in stream:
                pass
        samples.append(resident_mb())
    summary = {
        "streams": count,
        "threads": threading.active_count(),
        "open_files": len(list(Path("/proc/self/fd").iterdir())),
        **_summary(samples, 1),
    }
    print(
        f"{count} streams: {summary['start_mb']} MB, at most {summary['rise_mb']:+} MB after warm-up, "
        f"slope {summary['slope_kb_per_1000']:+} kB per 1,000 streams, {summary['threads']} thread left"
    )
    return summary


def _summary(samples: list[float], step: int) -> dict[str, float]:
    steady = np.array(samples[len(samples) // 10 :])
    slope = np.polyfit(np.arange(len(steady)) * step, steady, 1)[0]
    return {
        "start_mb": round(float(steady[0]), 1),
        "rise_mb": round(float(steady.max() - steady[0]), 2),
        "end_mb": round(float(steady[-1]), 1),
        "slope_kb_per_1000": round(float(slope) * 1e6, 1),
    }


if __name__ == "__main__":
    main()
