"""Scorers of runs that share a process, whose keys determine the outcome of their work."""

from dataclasses import replace

from tests.support.fakes import FACTS, FakeScorer
from zip_ray.errors import InputError
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Value, Work

NO_IMAGES, BUGGY, STUCK = "no images", "buggy", "stuck"
"""Keys of three runs: the task cannot be loaded; the scorer itself has a fault; the whole process becomes useless."""


class KeyedScorer(FakeScorer):
    """Reports the key it was built for as its template and, if that is a number, as the loss of evaluations."""

    def __init__(self, key: str) -> None:
        super().__init__()
        object.__setattr__(self, "key", key)
        if key == NO_IMAGES:
            raise InputError("task.root: no such images: give another")

    def facts(self) -> Facts:
        return replace(FACTS, template=f"{self.key} {{}}")

    def answer(self, work: Work) -> Value:
        if self.key == BUGGY:
            raise ZeroDivisionError("a fault of\nthis method")
        if self.key == STUCK:
            raise RuntimeError("CUDA error: device-side assert")
        if isinstance(work.body, Evaluation):
            return EvaluationResult(float(self.key), 0.5, 6)
        return super().answer(work)
