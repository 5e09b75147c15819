"""An RTSP server for tests, run by the system's Python, which sees GStreamer: `PORT CODEC`, prints its port."""

from __future__ import annotations

import sys

FPS = 20

COLOURS = {"red": (0, 0, 255), "blue": (255, 0, 0)}
"""Path -> B, G, R."""

CODECS = {"h264": "x264enc tune=zerolatency key-int-max=10 ! rtph264pay", "jpeg": "jpegenc ! rtpjpegpay"}


def serve(port: str, codec: str) -> None:
    """Run the server for ever."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    for path, (blue, green, red) in COLOURS.items():
        factory = GstRtspServer.RTSPMediaFactory(shared=True)
        colour = 0xFF000000 | red << 16 | green << 8 | blue
        factory.set_launch(
            f"( videotestsrc is-live=true pattern=solid-color foreground-color={colour} "
            f"! video/x-raw,format=I420,width=160,height=120,framerate={FPS}/1 ! {CODECS[codec]} name=pay0 )"
        )
        server.get_mount_points().add_factory(f"/{path}", factory)
    assert server.attach(None)
    print(server.get_bound_port(), flush=True)  # noqa: T201
    GLib.MainLoop().run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
