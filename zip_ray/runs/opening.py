"""What a run opens with: the facts of its scorers, the environment, its first event."""

import logging
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import Pool
from zip_ray.pool.membership import PoolReport, PoolWatch
from zip_ray.prompts import PromptSpace
from zip_ray.protocol.facts import SHARED_PREFIX, TEMPLATE_ONCE, Facts
from zip_ray.tuning.events import Event, PoolEvent, StartEvent, ZeroShot

PACKAGES = ("zip-ray", "ray", "torch", "open_clip_torch", "numpy", "mlflow")

_log = logging.getLogger(__name__)


def watch_of(pool: Pool, listen: Callable[[Event], None]) -> PoolWatch:
    """Has a listener hear who is in the pool while the loop, which tells of it too, does not run."""

    def tell(found: PoolReport) -> None:
        listen(PoolEvent(step=0, queries=0, seconds=0.0, **asdict(found)))

    return PoolWatch(pool, tell)


def facts_of(pool: Pool, watch: PoolWatch) -> Facts:
    """Facts of the scorers; what the user should know of them is said aloud.

    Raises:
        InputError: the task is for testing only.
    """
    watch.look()
    facts = pool.facts(watch.look)
    if facts.images["train"] == 0:
        raise InputError(
            "task.name: this data set is for testing only: tune on another, then test on it with `zip-ray evaluate`"
        )
    if facts.text_pass not in (SHARED_PREFIX, TEMPLATE_ONCE):
        _log.warning("every query encodes its text in full (%s): right, but slow", facts.text_pass)
    if facts.precision:
        _log.warning("model.precision %s", facts.precision)
    return facts


def start_event(config: Config, facts: Facts, space: PromptSpace, tested: ZeroShot) -> StartEvent:
    """The first event of a run."""
    return StartEvent(
        step=0,
        queries=0,
        seconds=0.0,
        time=time.time(),
        config=config.model_dump(mode="json"),
        environment=_environment(facts),
        weights_digest=facts.weights_digest,
        parameters=space.dimension,
        images={str(split): count for split, count in facts.images.items()},
        zero_shot=tested,
    )


def _environment(facts: Facts) -> dict[str, str | int | None]:
    """Where the run takes place, for whoever compares runs."""

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": facts.device,
        "text_pass": facts.text_pass,
        "precision": facts.precision or "fp32",
        **{package: installed(package) for package in PACKAGES},
    }
