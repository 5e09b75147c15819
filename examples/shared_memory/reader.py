"""Another process's side, in Python: print every new result, until the writer ends.

python examples/shared_memory/reader.py camera0
edgedet run model.onnx --source 0 --shm camera0        (in another terminal)
"""

from __future__ import annotations

import sys
import time

from edgedet.runtime.sinks.shared_memory import SharedMemoryReader

with SharedMemoryReader(sys.argv[1]) as reader:
    seen, writer = 0, 1
    while writer:
        result = reader.read()
        if result is not None:
            writer = result.writer
            if result.results != seen:
                seen = result.results
                print(f"frame {result.frame}, {result.found} objects")
                for record in result.records:
                    print(f"  class {record['class_id']} score {record['score']:.3f} box {record['xyxy'].tolist()}")
        time.sleep(0.001)
