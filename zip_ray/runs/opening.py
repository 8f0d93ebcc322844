"""The opening of a run: the facts of its scorers, its environment, its first event."""

import logging
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from zip_ray.config.secrets import without_secrets
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import Pool
from zip_ray.pool.membership import PoolReport, PoolWatch
from zip_ray.protocol.facts import SERVED, SHARED_PREFIX, TEMPLATE_ONCE, TOKEN_TREE, ClipFacts, Facts
from zip_ray.runs.beginning import Beginning
from zip_ray.tuning.events import Event, PoolEvent, StartEvent, ZeroShot

PACKAGES = ("zip-ray", "ray", "torch", "open_clip_torch", "numpy", "mlflow")

_log = logging.getLogger(__name__)


def pool_watch(pool: Pool, listen: Callable[[Event], None]) -> PoolWatch:
    """Reports the state of the pool to a listener while the loop, which does so itself, is not running."""

    def emit(found: PoolReport) -> None:
        listen(PoolEvent(step=0, queries=0, seconds=0.0, **asdict(found)))

    return PoolWatch(pool, emit)


def facts_of(pool: Pool, watch: PoolWatch) -> Facts:
    """Facts of the scorers, with warnings about slow or inexact passes and about doubtful data.

    Raises:
        InputError: the task is for testing only.
    """
    watch.look()
    facts = pool.facts(watch.look)
    if facts.images["train"] == 0:
        raise InputError(
            "task.name: this data set is for testing only: tune on another, then test on it with `zip-ray evaluate`"
        )
    if facts.clip is not None and facts.clip.text_pass not in (SHARED_PREFIX, TEMPLATE_ONCE):
        _log.warning("every query encodes its text in full (%s): correct, but slow", facts.clip.text_pass)
    if facts.vlm is not None:
        _log.warning("%s", facts.vlm.memory)
    if facts.vlm is not None and facts.vlm.text_pass not in (TOKEN_TREE, SERVED):
        _log.warning("every query runs the model per image and candidate (%s): correct, but slow", facts.vlm.text_pass)
    if facts.clip is not None and facts.clip.precision:
        _log.warning("model.precision %s", facts.clip.precision)
    for note in facts.notes:
        _log.warning("task: %s", note)
    return facts


def start_event(config: Config, begun: Beginning, tested: ZeroShot) -> StartEvent:
    """The first event of a run."""
    facts = begun.facts
    return StartEvent(
        step=0,
        queries=0,
        seconds=0.0,
        time=time.time(),
        config=without_secrets(config.model_dump(mode="json")),
        environment=_environment(facts),
        weights_digest=facts.weights_digest,
        parameters=begun.space.dimension,
        images={str(split): count for split, count in facts.images.items()},
        zero_shot=tested,
        template=begun.template,
        surveyed=begun.queries,
        reserved=begun.plan.reserved,
        classnames=facts.classnames,
        images_digest=facts.images_digest,
    )


def _of_clip(facts: ClipFacts) -> dict[str, str]:
    return {"text_pass": facts.text_pass, "precision": facts.precision or "fp32"}


def _environment(facts: Facts) -> dict[str, str | int | None]:
    """Versions, platform and device, for comparing runs."""

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
        **({} if facts.clip is None else _of_clip(facts.clip)),
        **({} if facts.vlm is None else {"text_pass": facts.vlm.text_pass}),
        **{package: installed(package) for package in PACKAGES},
    }
