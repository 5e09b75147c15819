"""Lane: all that one frame in flight needs, in order on one stream, and replayed as a CUDA graph where that can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

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
"""Graphs that are kept: one for each combination of picture sizes. A camera has one."""


class Lane:
    """One batch's way through the device. One thread at a time uses it.

    Args:
        spec: of the model.
        engine: what runs the network.
        pictures: of a batch at most.
        make_readout: makes what reads the outputs.
        graphs: whether runs are captured into CUDA graphs where driver and engine can.
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
        self.readout = make_readout(self.stream, dict(self._worker.outputs))
        self._done = device.event()
        self._captures = graphs and device.driver.has_graphs and self._worker.capturable
        self._graphs: dict[tuple[tuple[int, ...], ...], Graph | None] = {}
        # A batch that is not full leaves the rest of the tensor as it is, which must be numbers from the start.
        self.stream.fill(self._input, 0)

    def submit(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Placement]:
        """Queue all that pictures need; nothing of the lane is in flight. Returns where each lies in the input.

        Args:
            images: BGR uint8 (H, W, 3), at most a batch of them; they may be changed once this returns.

        Raises:
            ImageError: if one is no picture.
            EngineError: if the engine or the device refuses.
        """
        put = [frame.put(image) for frame, image in zip(self._frames, images, strict=False)]
        table, placements = self._stage.table([picture for picture, _ in put])
        np.copyto(self._table, table)
        moved = self.readout.prepare(placements) or any(moved for _, moved in put)
        if moved:
            self._forget_graphs()
        self._run(tuple(image.shape for image in images))
        self.stream.record(self._done)
        return placements

    def finish(self, placements: Sequence[Placement]) -> list[Any]:
        """Wait for what was submitted and return its answers."""
        self._done.synchronize()
        return self.readout.answers(placements)

    def close(self) -> None:
        """Free everything when the stream's work is done."""
        if self.stream.device.closed:
            return
        self.stream.synchronize()
        self._forget_graphs()
        self._worker.close()
        for frame in self._frames:
            frame.close()

    def _run(self, shapes: tuple[tuple[int, ...], ...]) -> None:
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
