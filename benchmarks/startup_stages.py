"""A run that notes when each stage of its start is over: what `startup.py` carries out, over any version of zip-ray.

`python benchmarks/startup_stages.py FILE ACTORS` tunes the quickstart in the current folder. Each line that it appends
to FILE is a time and the stage that is over then; a stage of the actors has a line of each.
"""

import sys
import time
from pathlib import Path
from typing import Any

NOTES, ACTORS = Path(sys.argv[1]), int(sys.argv[2])


def over(stage: str) -> None:
    """Note that a stage is over now."""
    with NOTES.open("a") as file:
        file.write(f"{time.time()} {stage}\n")


def note_after(module: Any, name: str, stage: str) -> None:
    """Make a function of a module record, when it returns, that a stage is over."""
    function = getattr(module, name)

    def noted(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        over(stage)
        return result

    setattr(module, name, noted)


def build_scorer(key: str) -> Any:
    """Replaces the function of that name in `api`."""
    over("actors' processes")
    from zip_ray.scorer import scorer
    from zip_ray.scorer.building import ScorerBuilder

    over("actors' imports")
    note_after(scorer, "load_clip", "weights")
    made = ScorerBuilder().of_key(key)
    over("features")
    return made


def main() -> None:
    """Tune until the first step."""
    from zip_ray import api
    from zip_ray.cli import settings
    from zip_ray.runs import lifecycle
    from zip_ray.tuning.events import StepEvent

    steps = []

    def listen(event: Any) -> None:
        if isinstance(event, StepEvent) and not steps:
            over("first step")
            steps.append(event)

    over("command's imports")
    from zip_ray.actors import ray_pool

    over("Ray's imports")
    note_after(ray_pool, "connect", "Ray")
    note_after(lifecycle, "begin", "first query")
    note_after(lifecycle, "evaluate_before", "zero-shot")
    api.build_scorer = build_scorer
    given = {"budget": {"queries": 200}, "cluster": {"actors": ACTORS}, "output": {"dir": "run"}}
    config = settings.of_file("quickstart", given)
    api.tune(config, interrupted=lambda: bool(steps), listen=listen)


if __name__ == "__main__":
    main()
