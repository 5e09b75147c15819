"""Reads a camera through v4l2src in the system's Python, and prints what came: `DEVICE IO_MODE FORMAT`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

PLUGINS = ("coreelements", "app", "video4linux2")
FRAMES = 8
MISSING = 77
"""Exit code where GStreamer or a plug-in is not here."""


def use_few_plugins(folder: Path) -> None:
    """Let GStreamer look at three plug-ins, not at hundreds: a guest under emulation takes a minute for those."""
    for found in Path("/usr/lib").glob("*/gstreamer-1.0/libgst*.so"):
        if found.stem.removeprefix("libgst") in PLUGINS:
            (folder / found.name).symlink_to(found)
    os.environ["GST_PLUGIN_SYSTEM_PATH_1_0"] = str(folder)
    os.environ["GST_REGISTRY_1_0"] = str(folder / "registry.bin")
    os.environ["GST_REGISTRY_FORK"] = "no"
    if len(list(folder.iterdir())) < len(PLUGINS):
        print(f"Not all of {', '.join(PLUGINS)}", file=sys.stderr)  # noqa: T201
        sys.exit(MISSING)


def report(device: str, io_mode: str, code: str) -> dict[str, object]:
    from edgedet.errors import MissingDependencyError
    from edgedet.runtime.capture import GStreamerSource
    from edgedet.runtime.capture.gstreamer_library import load_gstreamer

    try:
        load_gstreamer("Gst", "GstApp", "GstVideo", "GstAllocators")
    except MissingDependencyError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(MISSING)
    source = GStreamerSource(
        f"v4l2src device={device} io-mode={io_mode} "
        f"! video/x-raw,format={code},width=320,height=180,framerate=30/1 ! appsink",
        timeout=60,
    )
    held = source.read()
    before = [plane.copy() for plane in held.planes]
    frames = []
    for _ in range(FRAMES):
        with source.read() as frame:
            frames.append(
                {
                    "sequence": frame.sequence,
                    "dropped": frame.dropped_before,
                    "age_ms": (time.monotonic_ns() - frame.timestamp_ns) / 1e6,
                    "address": frame.address,
                    "dmabuf": [
                        (str(Path(f"/proc/self/fd/{p.fd}").readlink()), p.offset, p.pitch) for p in frame.dmabuf
                    ],
                    "mean": frame.image.mean((0, 1)).tolist(),
                }
            )
    unchanged = all((plane == copy).all() for plane, copy in zip(held.planes, before, strict=True))
    held_address = held.address
    source.close()
    still = held.image.mean((0, 1)).tolist()
    held.release()
    return {
        "live": source.live,
        "fps": source.fps,
        "pixel_format": held.picture.pixel_format,
        "frames": frames,
        "held_address": held_address,
        "held_unchanged": unchanged,
        "held_after_close": still,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        use_few_plugins(Path(folder))
        print(json.dumps(report(*sys.argv[1:])))  # noqa: T201
