"""Precision of the text tower's matrix products, and its effect on the loss differences that ZIP learns from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

Precision = Literal["fp32", "tf32", "bf16"]


@contextmanager
def products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Matrix products of this precision inside the block.

    fp32 is without TF32: at c ~ 0.01 its ten bits flip the sign of loss differences.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@dataclass(frozen=True)
class Agreement:
    """Loss differences of pairs in reduced precision against float32."""

    same_sign: float
    """Share of pairs whose difference keeps its sign."""
    noise: float
    """Root mean square of the error over that of the difference."""

    def __str__(self) -> str:
        return f"{self.same_sign:.0%} of pairs keep the sign of their loss difference, noise {self.noise:.2g} of it"


def compare(exact: Sequence[float], reduced: Sequence[float]) -> Agreement:
    """How well the loss differences of the same pairs agree."""
    a, b = np.asarray(exact), np.asarray(reduced)
    return Agreement(float(np.mean(np.sign(a) == np.sign(b))), float(np.linalg.norm(b - a) / np.linalg.norm(a)))
