"""A camera on a web page: live picture, boxes, rate and latency, in any browser.

python examples/04_web_page.py                        # the shipped clip, played as a camera would
python examples/04_web_page.py 0                      # the first camera
python examples/04_web_page.py 0 --address 0.0.0.0:8000 --token PASSWORD     # for others on the network too

From the command line the same is: edgedet run MODEL --source 0 --web
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import edgedet
from edgedet.runtime.capture.loop import LoopSource
from edgedet.runtime.selection import Selection
from edgedet.runtime.sinks import SinkRunner
from edgedet.runtime.sinks.web import Address, PageSettings, WebSink

DEMO = Path(edgedet.__file__).parent / "demo"
LOWEST, AT_FIRST = 0.05, 0.4  # what the model is asked for, and where the page's slider stands

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("source", nargs="?", help="camera number, V4L2 device, or RTSP or HTTP address")
parser.add_argument("--model", default=DEMO / "digits.int8.onnx", help="a file that edgedet export wrote")
parser.add_argument("--address", default="8000", help="[HOST:]PORT; without HOST for this machine only")
parser.add_argument("--token", help="whoever looks must know it")
parser.add_argument("--frames", type=int, help="end after so many")
arguments = parser.parse_args()

settings = PageSettings("edgedet", lowest_confidence=LOWEST, confidence=AT_FIRST)
page = WebSink(Address.parse(arguments.address), arguments.token, settings)
source = arguments.source or LoopSource(DEMO / "digits.mp4")

# A page that is slow, or that nobody looks at, costs the stream nothing: it gets the newest result when it is ready.
with (
    SinkRunner([page], live=True) as sinks,
    edgedet.open_stream(arguments.model, source, selection=Selection(confidence=LOWEST)) as stream,
    contextlib.suppress(KeyboardInterrupt),
):
    print(f"Live page: {page.url}  (Ctrl-C ends)", flush=True)
    for count, result in enumerate(stream, start=1):
        if not sinks.write(result) or count == arguments.frames:
            break

age = stream.statistics.age
print(f"{stream.statistics.frames} results, half of them younger than {age.p50:.0f} ms, 99 % than {age.p99:.0f} ms")
