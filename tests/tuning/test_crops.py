"""Fresh crops are requested once and ahead, and dropped after their mini-batch."""

from collections.abc import Callable

import numpy as np

from zip_ray.protocol.messages import Answer, Crops, CropsResult, Priority
from zip_ray.tuning.crops import CropStream


class Sent:
    """The requests of a stream; the test decides when results arrive."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self._handles: dict[int, Callable[[Answer], None]] = {}

    def __call__(self, body: Crops, priority: Priority, handle: Callable[[Answer], None]) -> None:
        assert priority == Priority.PREFETCH
        self.batches.append(body.batch)
        self._handles[body.batch] = handle

    def arrive(self, batch: int) -> None:
        self._handles.pop(batch)(Answer(0, CropsResult(np.full((3, 2), batch, np.float32))))


def test_crops_are_asked_for_once_and_ahead() -> None:
    sent = Sent()
    stream = CropStream(sent, ahead=2, last=None)
    assert stream.get(1) is None
    assert stream.get(1) is None
    assert sent.batches == [1, 2, 3]
    for batch in (2, 1):
        sent.arrive(batch)
    found = stream.get(1)
    assert found is not None
    assert found[0, 0] == 1
    assert stream.get(3) is None, "it is not ready"
    assert sent.batches == [1, 2, 3, 4, 5]
    assert stream.get(2) is None, "it has been let go"


def test_a_resumed_run_asks_for_no_crops_of_the_past_nor_beyond_the_last() -> None:
    sent = Sent()
    stream = CropStream(sent, ahead=3, last=8)
    stream.get(7)
    stream.get(8)
    assert sent.batches == [7, 8]
