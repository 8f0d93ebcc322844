"""Part c: what reduced precision of the text tower does to loss differences and scores, and what time it saves."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np

from benchmarks.on_gpu.models import SMALL, configure, make_scorer, pairs_at
from benchmarks.on_gpu.running import Case, Row, Setting
from benchmarks.on_gpu.timing import seconds_of
from zip_ray.clip.precision import Precision, compare
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import AskResult

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
Method = Literal["zip", "gauss-newton"]


def cases(setting: Setting) -> Iterator[Case]:
    """Each method's queries, on the shipped model and on a large one."""
    for name in (SMALL,) if setting.quick else (SMALL, "ViT-B-16"):
        for method in ("zip", "gauss-newton"):
            yield f"{name}, {method}", partial(judge, setting, name, method)


def judge(setting: Setting, name: str, method: str) -> Iterator[Row]:
    """Judge pairs at the distance at which the method queries."""
    scorer = make_scorer(name, setting.device, config := configure(setting, 100, method))
    space = make_space(config.prompt, scorer.facts().shape, 1)
    law, scale = config.optimizer.probe
    pairs = pairs_at(space.initial(), 4 if setting.quick else 64, law, scale)
    exact = scorer._passes.score(pairs, "fp32")
    for precision in PRECISIONS:
        found = scorer._passes.score(pairs, precision)
        losses = compare(
            *([plus - minus for plus, minus in (one.losses for one in results)] for results in (exact, found))
        )
        seconds = seconds_of(partial(scorer._passes.score, pairs, precision), setting)
        yield {
            "precision": precision,
            "pairs keep the sign": losses.same_sign,
            "noise of loss differences": losses.noise,
            "noise of score differences": _noise(exact, found),
            "ms per query": 1000 * seconds / (2 * len(pairs)),
        }


def _noise(exact: tuple[AskResult, ...], found: tuple[AskResult, ...]) -> float:
    """Root mean square of the error of score differences over that of the differences."""
    differences = []
    for results in (exact, found):
        scores = np.stack([one.scores for one in results if one.scores is not None]).astype(np.float64)
        differences.append(scores[:, 0] - scores[:, 1])
    return float(np.linalg.norm(differences[1] - differences[0]) / np.linalg.norm(differences[0]))
