"""Rounds that close before all answers have arrived: the gain with slow or lost actors, and the cost."""

from collections.abc import Sequence
from itertools import product

from benchmarks.common import configure, table
from benchmarks.curves import Curve, follow, mean_of, seconds_to
from benchmarks.virtual_time import Remembering
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.pool.contract import ScorerLike
from zip_ray.scorer.scorer import build_scorer

ACTORS = 32
PASS_SECONDS = 0.05
SLOW_AFTER, LOST_AFTER = 0.3, 0.6
"""Seconds after which an actor becomes ten times slower, and another never answers again."""
SHARES = (None, 0.95, 0.9, 0.8)
"""Share of a round's answers at which it closes; None for synchronous rounds."""
OF_GAIN = 0.75
"""Share of the synchronous gain, from the start to the end, that is the target."""

LATE_NOTE = (
    "gauss-newton under the dispatcher of the real pool, in virtual time as above, each pass give or take a tenth. In "
    f"trouble: after {SLOW_AFTER:g} s an actor becomes ten times slower, and after {LOST_AFTER:g} s another is silent "
    "for good. A round closes when this share of its answers is there (`execution.round_share`); later ones are charged"
    " and dropped. The target is three quarters of what synchronous runs gain where all actors are alike; the curve is "
    "the mean of the runs. The default is 0.9: an actor holds up to two queries, so that with 0.95 the two in trouble "
    "could still hold up a round of 52."
)


Curves = dict[tuple[float | None, bool], Curve]
"""By share, and by whether actors are in trouble."""


class Cluster(SimulatedPool):
    """Actors under the real pool's dispatcher, in virtual time; each pass takes its time, plus or minus a tenth."""

    def __init__(self, scorer: ScorerLike, seed: int, troubled: bool) -> None:
        super().__init__(seed, ACTORS, Faults(), lambda _: PASS_SECONDS, scorer=scorer)
        self.collect(1.0)  # all of them join
        if troubled:
            self._at(self.now + SLOW_AFTER, self._slow_down)
            self._at(self.now + LOST_AFTER, self._lose_silently)

    def _slow_down(self) -> list[object]:
        self._workers[1].pace *= 10
        return []

    def _lose_silently(self) -> list[object]:
        self._workers[2].hung = True
        return []


def close_early(job: tuple[str, int, int]) -> Curves:
    """Curves of one task, seed and budget of queries."""
    task, seed, queries = job
    scorer = Remembering(build_scorer(configure(task, seed, queries)))
    curves = {}
    for share, troubled in product(SHARES, (False, True)):
        execution = {} if share is None else {"mode": "async", "round_share": share}
        config = configure(
            task,
            seed,
            queries,
            readout="none",
            execution=execution,
            cluster={"actors": ACTORS},
            output={"checkpoint_every_steps": 1},
        )
        curves[share, troubled] = follow(config, scorer, Cluster(scorer, seed, troubled))
    return curves


def late_table(found: Sequence[Curves]) -> str:
    """A row per share, for actors that are alike and for actors in trouble."""
    means = {key: mean_of([curves[key] for curves in found]) for key in found[0]}
    start, end = means[None, False][0].accuracy, means[None, False][-1].accuracy
    target = start + OF_GAIN * (end - start)
    cells = {key: _cells(curve, target) for key, curve in means.items()}
    rows = [[_name(share), *cells[share, False], *cells[share, True]] for share in SHARES]
    figures = [
        f"{of}: {what}" for of in ("alike", "in trouble") for what in ("s to target", "longest run, s", "% at the end")
    ]
    return (
        f"{ACTORS} actors; mean test accuracy {100 * start:.1f}% at the start, target {100 * target:.1f}%\n\n"
        f"{table(['a round closes at', *figures], rows)}"
    )


def _name(share: float | None) -> str:
    return "all, synchronous" if share is None else f"{share:g}"


def _cells(curve: Curve, target: float) -> list[str]:
    reached = seconds_to(target, curve)
    return [
        f"{reached:.2f}" if reached < float("inf") else "never",
        f"{curve[-1].seconds:.2f}",
        f"{100 * curve[-1].accuracy:.1f}",
    ]
