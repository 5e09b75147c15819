"""Detect in a video and follow the objects; reading, pre-processing, inference and writing overlap.

python examples/02_video.py                           # a clip of handwritten digits
python examples/02_video.py model.onnx street.mp4
python examples/02_video.py model.onnx 0 --frames 300 # ten seconds of a camera
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import edgedet
from edgedet.runtime.sinks import SinkRunner, default_out, open_out
from edgedet.runtime.tracking import NO_TRACK, Tracking

DEMO = Path(edgedet.__file__).parent / "demo"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", nargs="?", default=DEMO / "digits.int8.onnx", help="a file that edgedet export wrote")
parser.add_argument("source", nargs="?", default=DEMO / "digits.mp4", help="video, camera number or address")
parser.add_argument("--frames", type=int, help="end after so many")
arguments = parser.parse_args()

seen: dict[int, str] = {}
with edgedet.open_stream(arguments.model, arguments.source, tracking=Tracking()) as stream:
    out = default_out(stream.source)
    # The writer has a thread of its own. A file waits for it, so that no frame is lost; a camera does not wait.
    with SinkRunner([open_out(out, stream.source)], live=not stream.keeps_all) as sinks:
        for result in itertools.islice(stream, arguments.frames):
            for item in result.detections:
                track = item.track_id
                if track is not None and track != NO_TRACK and track not in seen:
                    seen[track] = item.class_name
                    print(f"frame {result.frame.sequence:4d}: {item.class_name} has come, track {track}")
            if not sinks.write(result):  # the disk is full, say
                break
    statistics = stream.statistics

for error in sinks.errors:
    raise error
spent = statistics.latencies
print(f"{statistics.frames} frames, {len(seen)} objects, {statistics.fps:.1f} frames per second")
stages = {"pre-processing": spent.preprocess, "inference": spent.infer, "post-processing": spent.postprocess}
print("A frame: " + ", ".join(f"{name} {milliseconds:.1f} ms" for name, milliseconds in stages.items()))
print(f"Drawn in '{out}'")
