"""Fresh crops of coming mini-batches, requested ahead of the loop: their order does not depend on `w`."""

from collections.abc import Callable
from functools import partial

from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.messages import Answer, Crops, CropsResult, Priority

Send = Callable[[Crops, Priority, Callable[[Answer], None]], None]
"""Sends a work, and says what is done with its answer."""


class CropStream:
    """Features of fresh crops by mini-batch, from the current one on."""

    def __init__(self, send: Send, ahead: int, last: int | None) -> None:
        """Prepare without requests.

        Args:
            send: submits the encoding.
            ahead: mini-batches asked for beyond the current one.
            last: the last mini-batch that the budget allows, if it says.
        """
        self._send, self._ahead, self._last = send, ahead, last
        self._asked = 0
        self._ready: dict[int, Float32] = {}

    def get(self, batch: int) -> Float32 | None:
        """Features of a mini-batch, None while they are not ready; those of earlier ones are dropped."""
        end = batch + self._ahead if self._last is None else min(batch + self._ahead, self._last)
        for wanted in range(max(batch, self._asked + 1), end + 1):
            self._send(Crops(wanted), Priority.PREFETCH, partial(self._take, wanted))
            self._asked = wanted
        for earlier in [b for b in self._ready if b < batch]:
            del self._ready[earlier]
        return self._ready.get(batch)

    def _take(self, batch: int, answer: Answer) -> None:
        assert isinstance(answer.value, CropsResult)
        self._ready[batch] = answer.value.features
