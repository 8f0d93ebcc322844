"""Seconds between events of the GPU, memory, and the peak of the card, measured on the card."""

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.on_gpu.running import Setting
from zip_ray.clip.precision import Precision, products

REPEATS = 10
ENOUGH = 0.2
"""Seconds after which a call is not repeated."""


class Stopwatch:
    """Time between two events on the GPU's stream; on a CPU, of the wall."""

    def __init__(self, setting: Setting) -> None:
        self._on_gpu = setting.on_gpu
        self._spans: list[tuple[Any, Any]] = []

    def start(self) -> None:
        """Begin a span."""
        self._spans.append((self._now(), None))

    def stop(self) -> None:
        """End the span."""
        self._spans[-1] = self._spans[-1][0], self._now()

    @property
    def seconds(self) -> list[float]:
        """Seconds of each span, once the GPU has completed them all."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return [first.elapsed_time(last) / 1000 for first, last in self._spans]
        return [last - first for first, last in self._spans]

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def seconds_of(call: Callable[[], object], setting: Setting) -> float:
    """The fastest of several calls, after one that sets up things that last."""
    began = time.perf_counter()
    call()
    times: list[float] = []
    while not times or (len(times) < REPEATS and time.perf_counter() - began < ENOUGH):
        watch = Stopwatch(setting)
        watch.start()
        call()
        watch.stop()
        times += watch.seconds
    return min(times)


def mebibytes_of(call: Callable[[], object], setting: Setting) -> float:
    """The peak memory that a call allocates on the GPU, above what was there; 0 on a CPU."""
    if not setting.on_gpu:
        call()
        return 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def matmul_peak(setting: Setting, precision: Precision) -> float:
    """Floating-point operations per second of a large matrix product: the best of several sizes."""
    best = 0.0
    with products(precision, torch.device(setting.device)):
        for n in (512, 1024) if setting.quick else (4096, 8192):
            a, b = torch.randn(n, n, device=setting.device), torch.randn(n, n, device=setting.device)
            best = max(best, 2 * n**3 / seconds_of(lambda a=a, b=b: a @ b, setting))  # type: ignore[misc]
    return best
