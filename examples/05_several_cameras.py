"""Several cameras, one model: their frames go through one engine in batches, and one that fails stops no other.

python examples/05_several_cameras.py                 # two clips, played as cameras would
python examples/05_several_cameras.py 0 2 rtsp://gate/live --model model.onnx

Pull a camera's plug: the others go on, and it comes back by itself. http://127.0.0.1:PORT/metrics is for Prometheus.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections import Counter
from pathlib import Path

import edgedet
from edgedet.runtime.capture.loop import LoopSource
from edgedet.runtime.stream import Recovery, SourceEvent
from edgedet.runtime.stream.metrics import MetricsServer

DEMO = Path(edgedet.__file__).parent / "demo"
CLIPS = (DEMO / "digits.mp4", Path(__file__).parent / "digits" / "digits.mp4")


def report(event: SourceEvent) -> None:
    """Say that a camera failed, hangs, or is back; called from a thread of the stream."""
    print(event, flush=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("sources", nargs="*", help="camera numbers, V4L2 devices, RTSP or HTTP addresses")
parser.add_argument("--model", default=DEMO / "digits.int8.onnx", help="a file that edgedet export wrote")
parser.add_argument("--frames", type=int, help="end after so many results")
arguments = parser.parse_args()

sources = arguments.sources or [LoopSource(clip) for clip in CLIPS]
objects: Counter[int] = Counter()
with (
    edgedet.open_stream(arguments.model, sources, batch="auto", recovery=Recovery(on_event=report)) as stream,
    MetricsServer(lambda: stream.statistics) as metrics,
    contextlib.suppress(KeyboardInterrupt),
):
    print(f"Metrics: http://127.0.0.1:{metrics.port}/metrics  (Ctrl-C ends)", flush=True)
    for result in itertools.islice(stream, arguments.frames):
        objects[result.source_index] += len(result.detections)

for index, source in enumerate(stream.statistics.sources):
    lost = ", ".join(f"{count} {cause}" for cause, count in source.drops.by_cause().items() if count) or "none"
    rate = f"{source.frames} results, {source.fps:.1f} per second"
    print(f"{source.name}: {rate}; {objects[index]} objects; lost: {lost}")
