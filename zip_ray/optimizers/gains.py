"""The two gain sequences of SPSA (Spall, IEEE Trans. Aerospace and Electronic Systems, 1998)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gains:
    """a_k = a / (k + offset)^alpha and c_k = c / k^gamma, k = 1, 2, ..."""

    a: float
    c: float
    alpha: float
    gamma: float
    offset: float

    def step_size(self, k: int) -> float:
        """a_k."""
        return self.a / float((k + self.offset) ** self.alpha)

    def scale(self, k: int) -> float:
        """c_k."""
        return self.c / float(k**self.gamma)
