"""The structures and numbers against the kernel's own headers, as the compiler sees them, and against known values."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from edgedet.runtime.capture.v4l2 import ioctls, structs

HEADER = Path("/usr/include/linux/videodev2.h")

KNOWN = {
    "QUERYCAP": 0x80685600,
    "G_FMT": 0xC0D05604,
    "S_FMT": 0xC0D05605,
    "REQBUFS": 0xC0145608,
    "QUERYBUF": 0xC0585609,
    "QBUF": 0xC058560F,
    "EXPBUF": 0xC0405610,
    "DQBUF": 0xC0585611,
    "STREAMON": 0x40045612,
    "STREAMOFF": 0x40045613,
    "DMABUF_SYNC": 0x40086200,
    "DMA_HEAP_ALLOCATE": 0xC0184800,
}
"""As strace shows them on x86-64 and aarch64."""

TYPES = {
    "v4l2_capability": structs.Capability,
    "v4l2_fmtdesc": structs.FormatDescription,
    "v4l2_pix_format": structs.PixFormat,
    "v4l2_pix_format_mplane": structs.PixFormatMultiplanar,
    "v4l2_format": structs.Format,
    "v4l2_frmsizeenum": structs.FrameSize,
    "v4l2_frmivalenum": structs.FrameInterval,
    "v4l2_streamparm": structs.StreamParameters,
    "v4l2_requestbuffers": structs.RequestBuffers,
    "v4l2_plane": structs.Plane,
    "v4l2_buffer": structs.Buffer,
    "v4l2_exportbuffer": structs.ExportBuffer,
    "v4l2_control": structs.Control,
    "v4l2_queryctrl": structs.QueryControl,
    "v4l2_querymenu": structs.MenuItem,
    "dma_heap_allocation_data": structs.DmaHeapAllocation,
}
RENAMED = {"numbers", "alignment", "u"}
VIDEO_CALLS = [name for name in ioctls.__all__ if name.isupper() and not name.startswith("DMA")]


@pytest.mark.parametrize(("name", "number"), KNOWN.items())
def test_numbers_of_calls(name, number):
    assert getattr(ioctls, name) == number


def fields(structure: type) -> list[str]:
    return [name for name, *_ in structure._fields_ if name not in RENAMED]


@pytest.mark.skipif(not (HEADER.exists() and shutil.which("cc")), reason="needs a C compiler and linux/videodev2.h")
def test_the_c_compiler_agrees(tmp_path: Path):
    """Sizes, offsets of all fields, and numbers, printed by a program that includes the kernel's headers."""
    expected, lines = [], []
    for name, structure in TYPES.items():
        expected.append(str(ctypes.sizeof(structure)))
        lines.append(f"sizeof(struct {name})")
        for field in fields(structure):
            expected.append(str(getattr(structure, field).offset))
            lines.append(f"__builtin_offsetof(struct {name}, {field})")
    for name in VIDEO_CALLS:
        expected.append(str(getattr(ioctls, name)))
        lines.append(f"VIDIOC_{name}")
    lines += ["DMA_BUF_IOCTL_SYNC", "DMA_HEAP_IOCTL_ALLOC"]
    expected += [str(ioctls.DMABUF_SYNC), str(ioctls.DMA_HEAP_ALLOCATE)]
    includes = "".join(f"#include <linux/{header}.h>\n" for header in ("videodev2", "dma-buf", "dma-heap"))
    prints = "".join(f'printf("%lu\\n", (unsigned long)({line}));\n' for line in lines)
    source = tmp_path / "sizes.c"
    source.write_text(f"#include <stdio.h>\n{includes}int main(void) {{\n{prints}return 0;\n}}\n")
    program = tmp_path / "sizes"
    subprocess.run(["cc", "-o", program, source], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    assert len(lines) > 120
    assert dict(zip(lines, printed, strict=True)) == dict(zip(lines, expected, strict=True))
