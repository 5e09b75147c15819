"""Lane: all that one frame in flight needs, in order on one stream, and replayed as a CUDA graph where that can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.runtime.capture import Frame
from edgedet.runtime.gpu.frames import FrameBuffer
from edgedet.runtime.gpu.readout import Readout
from edgedet.runtime.kernels.preprocess import PreprocessStage
from edgedet.runtime.preprocess import Placement

if TYPE_CHECKING:
    from edgedet.model_spec import ModelSpec
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.stream import Graph, Stream
    from edgedet.runtime.engines.device_engine import DeviceEngine

__all__ = ["Lane", "MakeReadout"]

MakeReadout = Callable[["Stream", "dict[str, DeviceBuffer]"], Readout]
"""Stream and outputs by name -> what becomes of them."""

_MOST_GRAPHS = 8
"""Graphs that are kept: one for each combination of pictures' sizes and bytes to copy. A camera has one."""


class Lane:
    """One batch's way through the device. One thread at a time uses it.

    Args:
        spec: of the model.
        engine: what runs the network.
        pictures: of a batch at most.
        make_readout: makes what reads the outputs.
        graphs: whether runs are captured into CUDA graphs where driver and engine can.

    Attributes:
        readout: what reads the outputs.
        copies: pictures of the batch in flight that the host copied.
    """

    def __init__(
        self, spec: ModelSpec, engine: DeviceEngine, pictures: int, make_readout: MakeReadout, *, graphs: bool
    ) -> None:
        device = engine.device
        image = spec.input
        size = (3, image.height, image.width) if image.layout == "NCHW" else (image.height, image.width, 3)
        self.stream = device.stream()
        self._worker = engine.worker(self.stream, {engine.inputs[0].name: (pictures, *size)})
        self._input = self._worker.inputs[engine.inputs[0].name]
        self._stage = PreprocessStage(image, pictures, self.stream.empty)
        self._table: npt.NDArray[np.uint8] = device.pinned(self._stage.pictures.shape, np.uint8).array
        self._frames = [FrameBuffer(self.stream) for _ in range(pictures)]
        self._held: tuple[object, ...] = ()
        self.copies = 0
        self.readout = make_readout(self.stream, dict(self._worker.outputs))
        self._done = device.event()
        self._captures = graphs and device.driver.has_graphs and self._worker.capturable
        self._graphs: dict[tuple[tuple[int, int, int], ...], Graph | None] = {}
        # A batch that is not full leaves the rest of the tensor as it is, which must be numbers from the start.
        self.stream.fill(self._input, 0)

    def submit(self, images: Sequence[npt.NDArray[np.uint8] | Frame]) -> list[Placement]:
        """Queue all that pictures need; nothing of the lane is in flight. Returns where each lies in the input.

        Args:
            images: BGR uint8 (H, W, 3), which may be changed once this returns, or frames, which are kept until the
                device is done; at most a batch of them.

        Raises:
            ImageError: if one is no picture.
            SourceError: if a frame was released.
            EngineError: if the engine or the device refuses.
        """
        self._held = tuple((image, image.planes) for image in images if isinstance(image, Frame))
        put = [frame.put(image) for frame, image in zip(self._frames, images, strict=False)]
        self.copies = sum(placed.copied for placed in put)
        table, placements = self._stage.table([placed.picture for placed in put])
        np.copyto(self._table, table)
        moved = self.readout.prepare(placements) or any(placed.moved for placed in put)
        if moved:
            self._forget_graphs()
        self._run(tuple(placed.shape for placed in put))
        self.stream.record(self._done)
        return placements

    def finish(self, placements: Sequence[Placement]) -> list[Any]:
        """Wait for what was submitted and return its answers."""
        self._done.synchronize()
        self._held = ()
        return self.readout.answers(placements)

    def abandon(self) -> None:
        """Wait for what was submitted, if anything, and let go of its pictures."""
        if not self.stream.device.closed:
            self.stream.synchronize()  # its memory is written again next
        self._held = ()

    def close(self) -> None:
        """Free everything when the stream's work is done."""
        if self.stream.device.closed:
            return
        self.stream.synchronize()
        self._forget_graphs()
        self._worker.close()
        for frame in self._frames:
            frame.close()

    def _run(self, shapes: tuple[tuple[int, int, int], ...]) -> None:
        def queue() -> None:
            self._queue(len(shapes))

        graph = self._graphs.get(shapes)
        if graph is not None:
            self.stream.run(graph)
        elif self._captures and shapes in self._graphs:
            # The second time: what is loaded or compiled on a first run is there now, and a picture of a size that
            # comes once is not worth a graph.
            self._graphs[shapes] = graph = self.stream.capture(queue)
            self.stream.run(graph)
        else:
            if len(self._graphs) >= _MOST_GRAPHS:
                self._forget_graphs()
            self._graphs[shapes] = None
            queue()

    def _queue(self, count: int) -> None:
        for frame in self._frames[:count]:
            frame.upload()
        pictures: Any = self._stage.pictures
        self.stream.upload(pictures, self._table)
        self._stage.launch(self.stream, self._input)
        self._worker.enqueue()
        self.readout.queue()

    def _forget_graphs(self) -> None:
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs.clear()
