"""The live loop: reading, pre-processing, inference and post-processing of one or more sources, overlapped.

    source.read  ->  [n]  -+
    source.read  ->  [n]  -+->  preprocess  ->  [1]  ->  infer  ->  [n]  ->  postprocess, in the caller's own thread

Threads, joined by queues that hold as many items as the brackets say, so a slow stage holds back the ones before it and
memory stays constant. Order is kept for each source.

Where every frame counts, several runs of the network are under way at a time: the threads of one run wait for each
other again and again, threads of different runs never do. The post-processing of a frame runs while the next ones are
inferred. With ``latest`` a frame is taken only when the one before has its answer: stages that share the processors
take longer, and a result should be no older than one frame time and the time that its own stages take.

| file | what is in it |
|---|---|
| stream.py | the stream: starts everything, iterates |
| policy.py | which frames are processed |
| origin.py | opening sources, and how to open them again |
| feed.py | the thread that reads a source; starts over where it fails or hangs |
| recovery.py | what to do about sources that fail, and how it is told |
| intake.py | where frames wait, and batches are made |
| batch.py | what the stages hand to each other |
| stages.py | the threads between sources and results |
| result.py | what comes out |
| awaiting.py | asynchronous iteration |
| tally.py, statistics.py | counting, and the counts |
| statistics_log.py | the counts as a line of text now and then |
| metrics.py | the counts as Prometheus reads them |
"""

from __future__ import annotations

from edgedet.runtime.stream.origin import Origin, SourceLike, close_all, open_all
from edgedet.runtime.stream.policy import Policy, Schedule, schedule_for
from edgedet.runtime.stream.recovery import Recovery, SourceEvent
from edgedet.runtime.stream.result import Latencies, StreamResult
from edgedet.runtime.stream.statistics import Ages, Drops, SourceStatistics, Statistics
from edgedet.runtime.stream.stream import BATCH_WAIT_S, BatchSize, Stream

__all__ = [
    "BATCH_WAIT_S",
    "Ages",
    "BatchSize",
    "Drops",
    "Latencies",
    "Origin",
    "Policy",
    "Recovery",
    "Schedule",
    "SourceEvent",
    "SourceLike",
    "SourceStatistics",
    "Statistics",
    "Stream",
    "StreamResult",
    "close_all",
    "open_all",
    "schedule_for",
]
