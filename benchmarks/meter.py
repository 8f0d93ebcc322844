"""Time, operations and memory of a call, for benchmarks/query.py."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

LONG = 10.0
"""Seconds; a call that takes longer is measured once."""
KINDS = {"products": ("addmm", "::mm", "bmm", "convolution"), "attention": ("attention", "softmax")}
"""Kinds of operations, by parts of their names; all others are "the rest"."""


@dataclass(frozen=True)
class Row:
    """One way to compute a query."""

    idea: str
    seconds: float
    """Seconds per query."""
    flops: float
    """Operations per query, counted."""
    memory: float
    """Peak memory above what was resident before, MiB."""
    difference: float = 0.0
    """Largest difference of a feature from the plain pass."""

    def after(self, first: "Row", idea: str) -> "Row":
        """The cost of both, one after the other."""
        memory = max(self.memory, first.memory)
        return Row(idea, self.seconds + first.seconds, self.flops + first.flops, memory)


def row(idea: str, query: Callable[[], Tensor], prompts: int, flops: float) -> tuple[Row, Tensor]:
    """Time and memory of one call that answers `prompts` queries of `flops` operations each, and its answer."""
    times: list[float] = []
    with peak_memory() as peak:
        start = time.perf_counter()
        answer = query()
        times.append(time.perf_counter() - start)
    while times[0] < LONG and sum(times) < 2 and len(times) < 20:
        start = time.perf_counter()
        query()
        times.append(time.perf_counter() - start)
    return Row(idea, min(times) / prompts, flops, peak[0] / 2**20), answer


def counted(query: Callable[[], object]) -> int:
    """Floating-point operations of a call, from the shapes alone."""
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel is not counted
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        query()
    torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops()


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Bytes above the start, at the highest: of the GPU's allocator where there is one, else resident, sampled."""
    peak = [0.0]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        yield peak
        peak[0] = torch.cuda.max_memory_allocated() - start
        return
    process, done = psutil.Process(), threading.Event()
    start = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss - start)

    thread = threading.Thread(target=watch)
    thread.start()
    yield peak
    done.set()
    thread.join()


def matmul_peak(device: str) -> float:
    """Floating-point operations per second of a large float32 matrix product: the best of several sizes."""
    best = 0.0
    for n in (1024, 2048, 3072):
        a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
        for _ in range(6):
            start = time.perf_counter()
            (a @ b).flatten()[0].item()
            best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def shares(query: Callable[[], object], on_gpu: bool) -> dict[str, float]:
    """Share of the time by kind of operation."""
    with profile() as profiler:
        query()
    took = dict.fromkeys([*KINDS, "rest"], 0.0)
    for event in profiler.key_averages():
        kind = next((k for k, names in KINDS.items() if any(name in event.key for name in names)), "rest")
        took[kind] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    return {kind: time / sum(took.values()) for kind, time in took.items()}
