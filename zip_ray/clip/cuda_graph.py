"""GPU throughput: asynchronous transfers, and passes launched as one CUDA graph."""

import logging
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

Function = Callable[[Tensor], Tensor]
Memory = Any
"""Torch's handle of the memory of a graph."""


class Graph(Protocol):
    """What recorders make: torch.cuda.CUDAGraph, or a test's stand-in."""

    def replay(self) -> None: ...

    def pool(self) -> Memory: ...


Recorder = Callable[[Function, Tensor, Memory | None], tuple[Tensor, Graph]]
"""From a function, an input buffer and memory to share, to the output buffer and the graph that computes it."""


class Recording(NamedTuple):
    """A pass with the buffers it reads and writes."""

    source: Tensor
    output: Tensor
    graph: Graph


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. From CPU to GPU it goes through pinned memory, without waiting."""
    if device.type != "cuda" or x.is_cuda:
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def cuda_graph(function: Function, x: Tensor, memory: Memory | None) -> tuple[Tensor, Graph]:
    """The `Recorder` of a GPU: several hundred launches per pass become one."""
    graph = torch.cuda.CUDAGraph()
    # Other threads of an actor may use the GPU meanwhile, which the default capture mode reports as an error.
    with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
        output = function(x)
    return output, graph


class Recorded:
    """A function of one tensor on the GPU, recorded once per shape and precision, then replayed.

    Each recording is compared with the function itself when it is made. If it fails or differs, the function runs
    unrecorded thereafter, with a warning in the log.
    """

    def __init__(self, function: Function, tolerance: float, record: Recorder = cuda_graph) -> None:
        """Prepare without recordings.

        Args:
            function: what it does must depend on the shape of its input only, and must not wait for a result.
            tolerance: largest difference of a recording's numbers from the function's.
            record: makes a recording.
        """
        self._function, self._tolerance, self._record = function, tolerance, record
        self._recordings: dict[Hashable, Recording] = {}
        """By what they depend on. They share memory: each output is copied before another recording runs."""
        self.fault = ""
        """Why a recording failed, so that the function runs unrecorded; empty if none did."""

    def __call__(self, x: Tensor) -> Tensor:
        """The function's result, in memory of its own.

        Raises:
            RuntimeError: raised by the function itself, mostly for lack of memory.
        """
        if self.fault:
            return self._function(x)
        key = (x.shape, torch.backends.cuda.matmul.allow_tf32, torch.is_autocast_enabled(x.device.type))
        if key in self._recordings:
            return _replayed(self._recordings[key], x)
        expected = self._function(x)  # also sets up the libraries, which must not happen while recording
        try:
            self._recordings[key] = self._checked(x, expected)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self.forget()
            self.fault = " ".join(str(error).split())[:300]
            _log.warning("passes are launched kernel by kernel, not as a CUDA graph: %s", self.fault)
        return expected

    def forget(self) -> None:
        """Drop the recordings, for example when the tensors they read have moved or their memory is needed."""
        self._recordings = {}

    def _checked(self, x: Tensor, expected: Tensor) -> Recording:
        """A recording that gives the expected numbers for x.

        Raises:
            RuntimeError: it cannot be made, or gives others.
        """
        memory = next((made.graph.pool() for made in self._recordings.values()), None)
        source = torch.zeros_like(x)  # not x: a recording that does not read its buffer must not pass
        recording = Recording(source, *self._record(self._function, source, memory))
        difference = float((_replayed(recording, x) - expected).abs().max())
        if not difference <= self._tolerance:  # NaN too
            raise RuntimeError(f"its features differ by {difference:.1e}, more than {self._tolerance:.0e}")
        return recording


def _replayed(recording: Recording, x: Tensor) -> Tensor:
    recording.source.copy_(x)
    recording.graph.replay()
    return recording.output.clone()


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed; on a CPU only torch's error message shows it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
