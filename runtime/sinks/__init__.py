"""Sinks: where results go, one class a way out.

| kind | file | what it writes |
|---|---|---|
| picture | pictures.py | one annotated picture |
| pictures | pictures.py | a folder of annotated pictures |
| video | video.py | an annotated video |
| json | json_lines.py | one JSON object a frame |
| coco | coco_results.py | a COCO results file |
| maps | maps.py | a folder of PNG files with class or segment ids |
| window | window.py | nothing: shows annotated pictures on the screen |
| web | web/ | nothing: serves a page with the live picture |
| rtsp | rtsp.py | nothing: serves the annotated picture as a video stream |
| mqtt | mqtt.py | one JSON object a frame, to a broker |
| shared_memory | shared_memory.py | the newest detections, for another process |
| callback | callback.py | nothing: calls a function |

``SinkRunner`` (sink_runner.py) stands between a stream and its sinks; ``OneSource`` (one_source.py) gives a sink the
results of one source of several.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgedet.errors import SinkError
from edgedet.runtime.capture import PictureSource, Source
from edgedet.runtime.sinks.callback import CallbackSink
from edgedet.runtime.sinks.coco_results import CocoResultsSink, image_ids
from edgedet.runtime.sinks.json_lines import JsonLinesSink
from edgedet.runtime.sinks.maps import MapFolderSink, map_names
from edgedet.runtime.sinks.mqtt import MqttSink
from edgedet.runtime.sinks.one_source import OneSource
from edgedet.runtime.sinks.pictures import PICTURE_FORMATS, PictureFileSink, PictureFolderSink
from edgedet.runtime.sinks.rtsp import RtspSink
from edgedet.runtime.sinks.shared_memory import SharedMemorySink
from edgedet.runtime.sinks.sink import Sink
from edgedet.runtime.sinks.sink_runner import SinkRunner
from edgedet.runtime.sinks.video import VIDEO_FORMATS, VideoFileSink
from edgedet.runtime.sinks.web import WebSink
from edgedet.runtime.sinks.window import WindowSink

__all__ = ["SINKS", "OneSource", "Sink", "SinkRunner", "default_out", "image_ids", "map_names", "open_out"]

SINKS: dict[str, Callable[..., Sink]] = {
    "picture": PictureFileSink,
    "pictures": PictureFolderSink,
    "video": VideoFileSink,
    "json": JsonLinesSink,
    "coco": CocoResultsSink,
    "maps": MapFolderSink,
    "window": WindowSink,
    "web": WebSink,
    "rtsp": RtspSink,
    "mqtt": MqttSink,
    "shared_memory": SharedMemorySink,
    "callback": CallbackSink,
}
"""Kind -> class."""


def default_out(source: Source) -> Path:
    """Return where annotated results of a source go when nobody says: ``<stem>.detected...`` in the current folder."""
    if source.moving:
        return Path(f"{source.stem}.detected.mp4")
    if isinstance(source, PictureSource):
        suffix = Path(source.name).suffix
        return Path(f"{source.stem}.detected{suffix if suffix.lower() in PICTURE_FORMATS else '.jpg'}")
    return Path(f"{source.stem}.detected")


def open_out(out: str | os.PathLike[str], source: Source) -> Sink:
    """Open the sink for annotated pictures or video that fits both the name and the source.

    Args:
        out: for a video or camera a video file, for one picture a picture file, for several a folder; a folder that
            exists takes a single file of either kind under its default name.
        source: what will be written.

    Raises:
        SinkError: if the name does not fit the source, or cannot be written.
    """
    path = Path(out)
    single = source.moving or isinstance(source, PictureSource)
    if single and path.is_dir():
        path = path / default_out(source)
    if source.moving:
        return SINKS["video"](path, source.fps, real_time=source.live)
    if single:
        return SINKS["picture"](path)
    if path.suffix.lower() in (*PICTURE_FORMATS, *VIDEO_FORMATS) or path.is_file():
        raise SinkError("a folder for several pictures", f"'{path}'", "Pass --out FOLDER")
    return SINKS["pictures"](path)
