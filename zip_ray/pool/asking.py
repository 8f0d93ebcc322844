"""Work outside the loop, while nothing else is in flight: tests, surveys and the encoding of the tuned prompt."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from zip_ray.pool.contract import Pool
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.messages import (
    Ask,
    AskResult,
    Body,
    Evaluation,
    EvaluationResult,
    Pass,
    Priority,
    Value,
    new_work,
)
from zip_ray.protocol.readout import Readout

TESTED_TOGETHER = 1024
"""Test images of one piece of work: they take a scorer a minute or two, even on a CPU, where 50,000 would exceed the
answer timeout. A fixed number, so that features have the same bits for any number of scorers."""
POLL_SECONDS = 0.5
"""Between two calls of `meanwhile`."""

Waiting = Callable[[int, int], None]
"""Called at intervals during a wait: with the pieces of work that are done, and how many there are. An exception in it
ends the wait."""

V = TypeVar("V", bound=Value)


def silently(_done: int, _total: int) -> None:
    """Show nothing during a wait."""


def ask(pool: Pool, body: Body, kind: type[V], meanwhile: Waiting = silently) -> V:
    """The result of one piece of work, while nothing else is in flight.

    Args:
        pool: executes it.
        body: the work.
        kind: type of the result.
        meanwhile: called at intervals during the wait (see `Waiting`).

    Raises:
        PoolError, InputError: as the pool does.
    """
    return ask_all(pool, [body], kind, meanwhile)[0]


def accuracy_on_test(
    pool: Pool,
    prompt: Float64 | str | Prompt,
    images: int,
    meanwhile: Waiting = silently,
    start: str | None = None,
    readout: Readout | None = None,
) -> float:
    """Share of the test images classified correctly, while nothing else is in flight.

    Args:
        pool: runs the test; a large set is divided among all its scorers.
        prompt: parameters, shape (d,), a sentence with {} for the class name, or a prompt.
        images: how many test images there are.
        meanwhile: called at intervals during the wait (see `Waiting`).
        start: of the prompt space, as in an `Ask`; for parameters.
        readout: applied to the scores; None for the prompt alone.

    Raises:
        PoolError, InputError: as the pool does.
    """
    test = Evaluation("test", prompt, start=start, readout=readout)
    parts = tested_parts(images)
    results = ask_all(pool, [replace(test, part=part) for part in parts], EvaluationResult, meanwhile)
    if len(results) == 1:
        return results[0].accuracy
    return sum(round(result.accuracy * result.images) for result in results) / images


def tested_parts(images: int) -> list[tuple[int, int] | None]:
    """The pieces in which a split of so many images is tested: first and end of each, or None for a small one's all."""
    if images <= TESTED_TOGETHER:
        return [None]
    return [(first, min(first + TESTED_TOGETHER, images)) for first in range(0, images, TESTED_TOGETHER)]


def ask_all(pool: Pool, bodies: Sequence[Body], kind: type[V], meanwhile: Waiting = silently) -> list[V]:
    """The results, in the order of the bodies. Results of earlier work that was abandoned are discarded."""
    works = [new_work(body, Priority.EVALUATION) for body in bodies]
    missing, found = {work.id for work in works}, dict[int, V]()
    pool.submit(works)
    while missing:
        for answer in pool.collect(POLL_SECONDS):
            if answer.id in missing:
                missing.remove(answer.id)
                assert isinstance(answer.value, kind)
                found[answer.id] = answer.value
        meanwhile(len(found), len(works))
    return [found[work.id] for work in works]


def ask_each(pool: Pool, asks: Sequence[Ask], meanwhile: Waiting = silently) -> list[AskResult]:
    """The results of asks, each in a pass of its own, in their order; raises what `ask` does."""
    answers = ask_all(pool, [Pass((one,)) for one in asks], tuple, meanwhile)
    return [result for (result,) in answers]
