"""Pipelines as sources: planes where GStreamer has put them, against what its own converter makes of the same."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.errors import SourceError
from edgedet.runtime.capture import Frame, GStreamerSource, open_source
from edgedet.runtime.capture.gstreamer_library import load_gstreamer
from edgedet.runtime.capture.gstreamer_memory import Loans, Mapping, read_layout
from edgedet.runtime.pixel_formats import PictureFormat

PATIENCE_S = 20.0
RED = "pattern=solid-color foreground-color=0xffff0000"


def pipeline(caps: str, source: str = "pattern=smpte", sink: str = "appsink") -> str:
    return f"gst:videotestsrc {source} ! video/x-raw,framerate=30/1,{caps} ! {sink}"


def read_until_it_ends(source: GStreamerSource) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


@pytest.mark.parametrize("size", [(320, 240), (322, 242), (321, 241)], ids=str)
@pytest.mark.parametrize(
    ("code", "pixel_format"),
    [
        ("BGR", "BGR"),
        ("RGB", "RGB"),
        ("GRAY8", "GREY"),
        ("YUY2", "YUYV"),
        ("UYVY", "UYVY"),
        ("NV12", "NV12"),
        ("I420", "I420"),
    ],
)
def test_every_format_has_the_right_colours(code, pixel_format, size):
    width, height = size
    with open_source(pipeline(f"format={code},width={width},height={height}", RED)).read() as frame:
        assert (frame.pixel_format, frame.width, frame.height) == (pixel_format, width, height)
        assert all(pitch % 4 == 0 for pitch in frame.pitches), "GStreamer's rows are padded"
        # BT.601: red is Y 81, which grey pictures show as it is.
        expected = (81, 81, 81) if code == "GRAY8" else (0, 0, 255)
        # GStreamer leaves half of the last pair of an odd row unwritten.
        image = frame.image[:, : width - width % 2].astype(int)
        assert abs(image - expected).max() <= 1


@pytest.mark.parametrize("code", ["YUY2", "NV12", "I420"])
def test_bars_as_gstreamer_converts_them(code):
    """Away from the bars' edges, where converters interpolate the colour; GStreamer's quick one makes 253 of white."""
    caps = "width=336,height=240"
    own = GStreamerSource(pipeline(f"format={code},{caps}", sink="appsink")).read().image
    theirs = (
        GStreamerSource(pipeline(f"format={code},{caps}", sink="videoconvert ! video/x-raw,format=BGR ! appsink"))
        .read()
        .image
    )
    centres = np.s_[20:150, 24::48]
    assert abs(own[centres].astype(int) - theirs[centres]).max() <= 5


@pytest.mark.parametrize(
    ("colorimetry", "matrix", "value_range"),
    [("bt709", "bt709", "limited"), ("bt601", "bt601", "limited"), ("1:4:0:0", "bt601", "full")],
)
def test_matrix_and_range_are_what_the_caps_say(colorimetry, matrix, value_range):
    source = GStreamerSource(pipeline(f"format=NV12,width=64,height=64,colorimetry={colorimetry}", RED))
    picture = source.read().picture
    source.close()
    assert picture == PictureFormat("NV12", 64, 64, matrix, value_range)


def test_planes_are_views_of_the_buffer_and_outlive_the_pipeline():
    """A frame that is not released holds its buffer: the next ones lie elsewhere, and nothing writes there."""
    source = GStreamerSource(pipeline("format=NV12,width=64,height=64", "pattern=snow is-live=true"))
    held = source.read()
    plane, before = held.planes[0], held.planes[0].copy()
    addresses = {source.read().address for _ in range(8)}
    assert not plane.flags.owndata and not plane.flags.writeable
    assert held.address not in addresses and len(addresses) < 8, "buffers that went back are used again"
    mapping = weakref.ref(held.memory)
    source.close()
    held.release()
    held.release()
    gc.collect()
    assert np.array_equal(plane, before) and mapping() is not None
    del plane
    gc.collect()
    assert mapping() is None, "nothing looks at it any more"


def test_a_buffer_that_a_gpu_still_reads_is_not_given_back():
    class LateEvent:
        done = False

        def synchronize(self) -> None:
            self.done = True

    source = GStreamerSource(pipeline("format=GRAY8,width=64,height=64", "is-live=true"))
    events = [LateEvent() for _ in range(4)]
    frames = [source.read() for _ in events]
    mappings = [weakref.ref(frame.memory) for frame in frames]
    for frame, event in zip(frames, events, strict=True):
        frame.release(event)
    del frames, frame
    gc.collect()
    assert all(mapping() for mapping in mappings) and not any(event.done for event in events)
    source.read()
    assert [event.done for event in events] == [True, True, False, False], "at most two are late"
    source.close()
    gc.collect()
    assert all(event.done for event in events) and not any(mapping() for mapping in mappings)


def test_a_recording_has_all_its_frames_and_its_own_times():
    source = GStreamerSource(
        "videotestsrc num-buffers=5 ! video/x-raw,width=64,height=64,framerate=25/1,format=GRAY8 ! appsink sync=false"
    )
    assert (source.live, source.fps, source.stem) == (False, 25, "gstreamer")
    frames = read_until_it_ends(source)
    assert [frame.timestamp_ns for frame in frames] == [number * 40_000_000 for number in range(5)]
    assert [(frame.sequence, frame.dropped_before) for frame in frames] == [(number, 0) for number in range(5)]


def test_a_video_file_through_gstreamer(tmp_path: Path):
    """Motion JPEG in AVI, which every GStreamer decodes."""
    path = tmp_path / "street.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 64))
    for number in range(6):
        writer.write(np.full((64, 64, 3), 40 + 10 * number, np.uint8))
    writer.release()
    source = GStreamerSource(
        f"filesrc location={path} ! avidemux ! jpegdec ! videoconvert ! video/x-raw,format=BGR ! appsink sync=false"
    )
    means = [round((float(frame.image.mean()) - 40) / 10) for frame in read_until_it_ends(source)]
    assert means == list(range(6))


def test_a_live_pipeline_drops_old_frames_and_counts_them():
    source = GStreamerSource(pipeline("format=GRAY8,width=64,height=64", "is-live=true"))
    assert source.live
    first = source.read()
    time.sleep(0.3)
    asked = time.monotonic_ns()
    later = [source.read() for _ in range(3)]
    assert later[0].sequence > first.sequence + 4
    assert [frame.sequence for frame in later] == [
        earlier.sequence + 1 + frame.dropped_before for earlier, frame in zip([first, *later], later, strict=False)
    ]
    assert first.timestamp_ns < asked - 2e8 < later[0].timestamp_ns < later[2].timestamp_ns < time.monotonic_ns()
    source.close()


def test_sources_need_not_copy_pictures_of_an_unusual_layout():
    """The appsink's pad answers as gstreamer's own video sinks do: it takes GstVideoMeta."""
    gst = load_gstreamer("Gst", "GstApp", "GstVideo")
    source = GStreamerSource(pipeline("format=NV12,width=64,height=64", "is-live=true", "appsink name=mine"))
    pad = source._pipeline.get_by_name("mine").get_static_pad("sink")
    query = gst.Gst.Query.new_allocation(pad.get_current_caps(), True)
    assert pad.get_peer().peer_query(query)
    assert query.get_n_allocation_metas() == 1
    assert query.parse_nth_allocation_meta(0)[0] == gst.GstVideo.video_meta_api_get_type()
    latency = gst.Gst.Query.new_latency()
    assert source._pipeline.query(latency), "other questions go on to the appsink"
    source.close()


def test_what_the_appsink_was_told_stays():
    source = GStreamerSource(
        pipeline("format=GRAY8,width=64,height=64", "is-live=true", "appsink max-buffers=3 drop=false name=mine")
    )
    sink = source._pipeline.get_by_name("mine")
    assert (sink.get_property("max-buffers"), sink.get_property("drop")) == (3, False)
    source.close()


def test_jpeg_stays_compressed_until_somebody_looks():
    source = GStreamerSource(pipeline("format=I420,width=320,height=240", RED, "jpegenc ! appsink"))
    with source.read() as frame:
        assert frame.pixel_format == "MJPG" and frame.planes[0].size < 320 * 240
        assert frame.image.shape == (240, 320, 3) and abs(frame.image.astype(int) - (0, 0, 255)).max() < 20
    source.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch ! appsink", r"a pipeline of GStreamer, got 'nosuch ! appsink' \(no element"),
        ("videotestsrc ! fakesink", "a pipeline with one appsink, got 0"),
        ("videotestsrc ! appsink videotestsrc ! appsink", "a pipeline with one appsink, got 2"),
        ("videotestsrc", "a pipeline with one appsink, got 0"),
        ("videotestsrc num-buffers=0 ! appsink", r"not a single one \(it ended\)"),
        ("filesrc name=my location=/none ! decodebin ! appsink", "not a single one .my: Resource"),
        ("v4l2src name=my device=/dev/video99 ! appsink", "not a single one .my: Cannot identify"),
        ("videotestsrc ! video/x-raw,format=BGRx ! appsink", "BGR, RGB, GRAY8.*format=.*BGRx.*videoconvert"),
        ("audiotestsrc ! appsink", "BGR, RGB, GRAY8.*audio/x-raw"),
    ],
)
def test_a_pipeline_that_cannot_be_is_said(text, message):
    before = threading.active_count()
    with pytest.raises(SourceError, match=message):
        GStreamerSource(text)
    assert threading.active_count() == before


def test_an_element_that_fails_later_is_said_after_the_frames_before():
    source = GStreamerSource(
        "videotestsrc ! video/x-raw,format=GRAY8,width=64,height=64 ! identity name=my error-after=4 "
        "! appsink sync=false"
    )
    frames = []
    with pytest.raises(SourceError, match=r"none after frame 2 \(my: "):
        while True:
            frames.append(source.read())
    assert len(frames) == 3
    source.close()


def test_a_pipeline_that_delivers_nothing_is_not_waited_for_long():
    with pytest.raises(SourceError, match=r"nothing for 0\.3 seconds"):
        GStreamerSource("appsrc is-live=true ! video/x-raw,format=GRAY8,width=64,height=64 ! appsink", timeout=0.3)


@pytest.mark.parametrize("end", ["interrupt", "close"])
def test_another_thread_ends_the_waiting(end):
    source = GStreamerSource(
        "videotestsrc is-live=true num-buffers=1 ! video/x-raw,format=GRAY8,framerate=1/30 ! "
        "valve name=valve ! appsink",
        timeout=60,
    )
    source.read()
    errors = []

    def wait() -> None:
        try:
            while source.read() is not None:
                pass
        except SourceError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    getattr(source, end)()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    source.close()
    with pytest.raises(SourceError, match="which was closed"):
        source.read()


def test_nothing_leaks():
    def once() -> None:
        source = GStreamerSource(pipeline("format=NV12,width=640,height=480", "is-live=true"))
        for _ in range(3):
            source.read().image  # noqa: B018
        source.close()

    for _ in range(3):
        once()
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(10):
        once()
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_planes_in_memories_of_their_own_with_offsets_and_pitches():
    """NV12 as multi-planar cameras give it: Y and UV in two memories, rows 80 bytes apart, 16 bytes before each."""
    gst = load_gstreamer("Gst", "GstVideo", "GstAllocators")
    rng = np.random.default_rng(0)
    luma, chroma = rng.integers(0, 256, (32, 80), np.uint8), rng.integers(0, 256, (16, 80), np.uint8)
    buffer = gst.Gst.Buffer.new()
    for block in (luma, chroma):
        buffer.append_memory(gst.Gst.Buffer.new_wrapped(bytes(16) + block.tobytes()).get_memory(0))
    offsets = [16, 16 + luma.size + 16]
    flags, code = gst.GstVideo.VideoFrameFlags.NONE, gst.GstVideo.VideoFormat.NV12
    gst.GstVideo.buffer_add_video_meta_full(buffer, flags, code, 64, 32, 2, [*offsets, 0, 0], [80, 80, 0, 0])
    with frame_of(gst, buffer) as frame:
        assert frame.pitches == (80, 80) and frame.dmabuf == ()
        assert np.array_equal(frame.planes[0], luma[:, :64]) and np.array_equal(frame.planes[1], chroma[:, :64])


def test_a_buffer_that_is_too_small_is_said():
    gst = load_gstreamer("Gst", "GstVideo", "GstAllocators")
    with pytest.raises(SourceError, match="got 100 bytes in 1 pieces"):
        frame_of(gst, gst.Gst.Buffer.new_wrapped(bytes(100)))


def test_dma_buffers_are_recognised():
    """A file in memory stands for a DMA buffer: GStreamer's allocator takes any file descriptor."""
    gst = load_gstreamer("Gst", "GstVideo", "GstAllocators")
    content = np.arange(64 * 48, dtype=np.uint32).astype(np.uint8).tobytes()
    fd = os.memfd_create("frame")
    os.write(fd, content)
    buffer = gst.Gst.Buffer.new()
    allocators = gst.GstAllocators
    allocator = allocators.DmaBufAllocator.new()
    buffer.append_memory(allocators.DmaBufAllocator.alloc(allocator, fd, len(content)))
    with frame_of(gst, buffer) as frame:
        luma, chroma = frame.dmabuf
        assert (luma.fd, luma.offset, luma.pitch) == (fd, 0, 64)
        assert (chroma.fd, chroma.offset, chroma.pitch) == (fd, 64 * 32, 64)
        assert b"".join(plane.tobytes() for plane in frame.planes) == content


def frame_of(gst: Any, buffer: Any) -> Frame:
    """NV12 64x32 in a buffer made by hand."""
    caps = gst.Gst.Caps.from_string("video/x-raw,format=NV12,width=64,height=32,framerate=30/1")
    layout = read_layout(gst, caps, "by hand")
    mapping = Mapping(gst, gst.Gst.Sample.new(buffer, caps, None, None), layout, "by hand")
    lease = Loans().lend(mapping)
    return Frame(mapping.planes(lease), 0, 0, "by hand", picture=layout.picture, lease=lease)
