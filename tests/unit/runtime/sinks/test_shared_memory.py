from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sink_results import sink_result

from edgedet.errors import SinkError, SpecError
from edgedet.maps import ClassMap
from edgedet.results import Detections
from edgedet.runtime.sinks.shared_memory import RECORD, SharedMemoryReader, SharedMemorySink
from edgedet.runtime.stream import StreamResult

SHM = Path("/dev/shm")
READER = "examples/shared_memory/reader"

pytestmark = pytest.mark.skipif(not SHM.is_dir(), reason="needs POSIX shared memory at /dev/shm")


@pytest.fixture
def name() -> Iterator[str]:
    name = f"edgedet-test-{uuid.uuid4().hex}"
    yield name
    (SHM / name).unlink(missing_ok=True)


def filled(value: int, count: int) -> StreamResult:
    """A result whose every number is the same, so that a torn one shows."""
    numbers = np.full(count, value)
    found = Detections(
        np.full((count, 4), value, np.float32), numbers.astype(np.float32), numbers, track_id=numbers.astype(np.int64)
    )
    return replace(sink_result(value), answer=found)


def test_the_bytes_are_those_of_the_documented_layout(name: str):
    sink = SharedMemorySink(name, capacity=3)
    found = replace(sink_result(7).detections, track_id=np.array([41, 42], np.int64))
    before = time.monotonic_ns()
    sink.write(replace(sink_result(7), answer=found))
    data = (SHM / name).read_bytes()
    assert len(data) == 128 + 3 * 32 and RECORD.itemsize == 32
    assert struct.unpack_from("<8s4I", data) == (b"EDGEDET\0", 1, 128, 32, 3)
    lock, writer, results, written, timestamp, frame = struct.unpack_from("<QQQqqQ", data, 24)
    assert lock % 2 == 0 and writer > 0 and results == 1
    assert before <= written <= time.monotonic_ns() and (timestamp, frame) == (7_000_000, 7)
    assert struct.unpack_from("<5I36x", data, 72) == (3, 64, 48, 2, 2)
    assert struct.unpack_from("<5fiq", data, 128) == pytest.approx((1.5, 2, 30, 40, 0.9, 1, 41), rel=1e-6)
    assert struct.unpack_from("<5fiq", data, 160) == pytest.approx((5, 6, 20.25, 30, 0.5, 0, 42), rel=1e-6)
    sink.close()
    sink.close()
    assert not (SHM / name).exists()


def test_a_reader_gets_what_was_written_and_is_told_the_end(name: str):
    sink = SharedMemorySink(name, capacity=1)
    with SharedMemoryReader(name) as reader:
        assert reader.read() is None
        sink.write(sink_result(5))
        result = reader.read()
        assert (result.frame, result.found, len(result.records), result.dropped) == (5, 2, 1, 3)
        assert result.records[0]["track_id"] == -1 and result.records[0]["class_id"] == 1
        assert result.writer == os.getpid()
        sink.close()
        assert reader.read().writer == 0 and not (SHM / name).exists()
        again = SharedMemorySink(name, capacity=1)
        again.write(sink_result(6))
        with SharedMemoryReader(name) as second:
            assert second.read().frame == 6
        assert reader.read().frame == 5, "the old memory stays as it was for who has it"
        again.close()


def killed_writer(name: str, capacity: int) -> None:
    """Leave the memory of a program that had no time to clean up."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from sink_results import sink_result; from edgedet.runtime.sinks.shared_memory import SharedMemorySink\n"
        f"sink = SharedMemorySink({name!r}, {capacity}); sink.write(sink_result(4)); os._exit(1)"
    )
    support = str(Path(sink_result.__code__.co_filename).parent)
    assert subprocess.run([sys.executable, "-c", code, support], check=False).returncode == 1


def test_the_memory_of_a_killed_writer_is_taken_over(name: str):
    killed_writer(name, 300)
    with SharedMemoryReader(name) as reader:
        dead = reader.read()
        assert dead.frame == 4
        with pytest.raises(ProcessLookupError):
            os.kill(dead.writer, 0)
        sink = SharedMemorySink(name)
        assert reader.read() is None
        sink.write(sink_result(8))
        assert reader.read().frame == 8 and reader.read().writer == os.getpid()
        sink.close()


def test_a_killed_writers_memory_of_another_size_is_left_to_those_who_have_it(name: str):
    killed_writer(name, 2)
    with SharedMemoryReader(name) as reader:
        sink = SharedMemorySink(name)
        sink.write(filled(9, 100))
        assert reader.read().frame == 4
        with SharedMemoryReader(name) as second:
            assert len(second.read().records) == 100
        sink.close()


def test_no_result_is_torn(name: str):
    """A writer at full speed beside a reader: all numbers of a result belong together."""
    sink = SharedMemorySink(name)
    stop = threading.Event()

    def write() -> None:
        value = 0
        while not stop.is_set():
            value += 1
            sink.write(filled(value, value % 200))

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    with SharedMemoryReader(name) as reader:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline or len(seen) < 20:
            result = reader.read()
            if result is None:
                continue
            seen.add(result.frame)
            assert len(result.records) == result.frame % 200
            assert (result.records["xyxy"] == result.frame).all() and (result.records["track_id"] == result.frame).all()
    stop.set()
    thread.join()
    sink.close()


HAMMER = """
#include "edgedet_shm.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static struct edgedet_record records[300];
    struct edgedet_result result;
    struct stat status;
    uint64_t seen = 0, last = 0;
    int fd = shm_open(argv[argc - 1], O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &status) != 0) return 2;
    const struct edgedet_shm *shm = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (shm == MAP_FAILED || !edgedet_shm_fits(shm, (size_t)status.st_size)) return 3;
    puts("reading");
    fflush(stdout);
    while (__atomic_load_n(&shm->writer, __ATOMIC_ACQUIRE) != 0) {
        if (edgedet_shm_read(shm, &result, records, 300) <= 0) continue;
        if (result.results < last) return 4;
        seen += result.results != last;
        last = result.results;
        if (result.count != result.frame % 200 || result.found != result.count) return 5;
        for (uint32_t i = 0; i < result.count; i++) {
            float value = (float)result.frame;
            if (records[i].left != value || records[i].bottom != value || records[i].score != value ||
                records[i].class_id != (int32_t)result.frame || records[i].track_id != (int64_t)result.frame)
                return 6;
        }
    }
    printf("%llu\\n", (unsigned long long)seen);
    return 0;
}
"""


def test_no_result_is_torn_in_another_process_in_c(name: str, root: Path, tmp_path: Path):
    """A writer at full speed beside firmware that reads without a pause: all numbers of a result belong together."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs cc")
    (tmp_path / "hammer.c").write_text(HAMMER)
    include = f"-I{root / READER}".removesuffix("/reader")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", include]
    subprocess.run([compiler, *flags, tmp_path / "hammer.c", "-o", tmp_path / "hammer", "-lrt"], check=True)
    sink = SharedMemorySink(name)
    sink.write(filled(1, 1))
    with subprocess.Popen([tmp_path / "hammer", name], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == "reading\n"
        results = [filled(value, value % 200) for value in range(1, 1000)]
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for result in results:
                sink.write(result)
        sink.close()
        assert reader.wait(20) == 0, "see the numbers in HAMMER"
        assert int(reader.stdout.read()) > 0


def test_a_writer_that_died_in_the_middle_is_told_and_recovered_from(name: str):
    killed_writer(name, 300)
    with (SHM / name).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        struct.pack_into("<Q", memory, 24, struct.unpack_from("<Q", memory, 24)[0] + 1)
    with SharedMemoryReader(name) as reader:
        with pytest.raises(SinkError, match="half written"):
            reader.read()
        sink = SharedMemorySink(name)
        sink.write(sink_result(3))
        assert reader.read().frame == 3
        sink.close()


def test_one_writer_only_and_names_that_stay_in_the_folder(name: str):
    sink = SharedMemorySink(name)
    with pytest.raises(SinkError, match="another edgedet writes"):
        SharedMemorySink(name)
    sink.close()
    SharedMemorySink(name).close()
    for wrong in ("", "../x", "a/b", ".hidden", "a b"):
        with pytest.raises(SinkError, match="a name of letters"):
            SharedMemorySink(wrong)


def test_readers_say_what_is_wrong(name: str):
    with pytest.raises(SinkError, match="No such file"):
        SharedMemoryReader(name)
    (SHM / name).write_bytes(b"EDGEDET\0" + bytes(200))
    with pytest.raises(SinkError, match="layout 1"):
        SharedMemoryReader(name)


def test_maps_are_refused(name: str):
    sink = SharedMemorySink(name)
    with pytest.raises(SpecError, match="boxes"):
        sink.write(replace(sink_result(), answer=ClassMap(np.zeros((48, 64), np.uint8), ("a",))))
    sink.close()


@pytest.mark.parametrize("compiler", ["cc", "g++", "python"])
def test_the_readers_in_the_examples_agree(root: Path, tmp_path: Path, name: str, compiler):
    if compiler == "python":
        program = [sys.executable, str(root / f"{READER}.py")]
    else:
        if shutil.which(compiler) is None:
            pytest.skip(f"needs {compiler}")
        language = [] if compiler == "cc" else ["-x", "c++", "-std=c++17"]
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", *language]
        source = str(root / f"{READER}.c")
        if compiler == "g++":
            # C++ has no compound literals and no implicit cast from void *: it compiles the header.
            source = str(tmp_path / "header.cpp")
            Path(source).write_text(
                f'#include "{root}/examples/shared_memory/edgedet_shm.h"\n'
                "static_assert(sizeof(edgedet_record) == 32 && sizeof(edgedet_result) == 56);\n"
                "static_assert(offsetof(edgedet_shm, result) == 40);\n"
                "int main() { return edgedet_shm_fits(nullptr, 0); }\n"
            )
        subprocess.run([compiler, *flags, source, "-o", str(tmp_path / "reader"), "-lrt"], check=True)
        program = [str(tmp_path / "reader")]
        if compiler == "g++":
            assert subprocess.run(program, check=False).returncode == 0
            return
    sink = SharedMemorySink(name)
    with subprocess.Popen([*program, name], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        sink.write(sink_result(9))
        lines = [reader.stdout.readline() for _ in range(3)]
        sink.close()
        assert reader.wait(20) == 0
    assert lines[0] == "frame 9, 2 objects\n"
    assert lines[1].startswith("  class 1 score 0.900 box ") and lines[2].startswith("  class 0 score 0.500 box ")
    for number in ("1.5", "2.0", "30.0", "40.0"):
        assert number in lines[1]
