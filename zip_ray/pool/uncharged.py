"""Work that is not charged, done while nothing else is in flight: tests of a prompt, and what is kept of it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from zip_ray.pool.contract import Pool
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Result, Work
from zip_ray.tuning.loop import POLL_SECONDS

TESTED_TOGETHER = 1024
"""Test images of one piece of work: so many take a scorer a minute or two, even on a CPU, where 50,000 would seem to
hang. A fixed number, so that features have the same bits for any number of scorers."""

R = TypeVar("R", bound=Result)


def ask(pool: Pool, work: Work, kind: type[R], meanwhile: Callable[[], None] = lambda: None) -> R:
    """Have one piece of work done that is not charged, while nothing else is in flight.

    Args:
        pool: does it.
        work: what is to be done.
        kind: of its result.
        meanwhile: is called now and then during the wait.

    Raises:
        PoolError, InputError: as the pool does.
    """
    return _ask_all(pool, [work], kind, meanwhile)[0]


def accuracy_on_test(
    pool: Pool, prompt: Float64 | str | Prompt, images: int, meanwhile: Callable[[], None] = lambda: None
) -> float:
    """Share of the test images classified rightly, while nothing else is in flight.

    Args:
        pool: tests; a large set in parts, by all its scorers.
        prompt: parameters, shape (d,), a sentence with {} for the class name, or a prompt.
        images: how many test images there are.
        meanwhile: is called now and then during the wait.

    Raises:
        PoolError, InputError: as the pool does.
    """
    if images <= TESTED_TOGETHER:
        return ask(pool, Evaluation(-1, "test", prompt), EvaluationResult, meanwhile).accuracy
    parts = [(first, min(first + TESTED_TOGETHER, images)) for first in range(0, images, TESTED_TOGETHER)]
    works = [Evaluation(-1 - k, "test", prompt, part) for k, part in enumerate(parts)]
    results = _ask_all(pool, works, EvaluationResult, meanwhile)
    return sum(round(result.accuracy * result.images) for result in results) / images


def _ask_all(pool: Pool, works: Sequence[Work], kind: type[R], meanwhile: Callable[[], None]) -> list[R]:
    """The results, in the order of the works."""
    found: dict[int, R | None] = dict.fromkeys(work.id for work in works)
    for work in works:
        pool.submit(work)
    while None in found.values():
        for answer in pool.collect(POLL_SECONDS):
            if isinstance(answer.result, kind) and answer.result.id in found:
                found[answer.result.id] = answer.result
        meanwhile()
    return [result for result in found.values() if result is not None]
