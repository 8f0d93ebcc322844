"""Test of a tuned prompt on the targets of its run: other classes, other data. Kept in the run folder."""

import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED, TunedPrompt
from zip_ray.comparison.plan import Planned
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.files import write_whole
from zip_ray.pool.asking import accuracy_on_test
from zip_ray.pool.contract import PoolError
from zip_ray.pool.shared import PoolHub

FILE_NAME = "applied.json"


def apply_to_targets(run: Planned, hub: PoolHub) -> None:
    """Test the tuned prompt of a run on every target that it has not been tested on.

    Raises:
        PoolError: some could not be tested; the others were.
    """
    prompt = TunedPrompt.load(run.folder)
    applied, faults = read_applied(run), []
    for label in [label for label in run.targets if label not in applied]:
        try:
            applied[label] = _test(prompt, run.targets[label], hub)
            _write_applied(run, applied)
        except (InputError, PoolError) as error:
            faults.append(f"{label}: {error}")
    if faults:
        raise PoolError(f"tuned, but not tested on {'; '.join(faults)}")


def read_applied(run: Planned) -> dict[str, dict[str, float]]:
    """By label of a target that the prompt was tested on, as the target is now: accuracies by name."""
    path = run.folder / FILE_NAME
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        label: kept[label]["accuracy"]
        for label, config in run.targets.items()
        if label in kept and kept[label].get("task") == config.task.model_dump(mode="json")
    }


def _write_applied(run: Planned, applied: Mapping[str, Mapping[str, float]]) -> None:
    """Keep the accuracies, each beside the task that it was measured on."""
    tasks = {label: run.targets[label].task.model_dump(mode="json") for label in applied}
    kept = {label: {"task": tasks[label], "accuracy": accuracies} for label, accuracies in applied.items()}
    write_whole(run.folder / FILE_NAME, (json.dumps(kept, indent=2) + "\n").encode())


def _test(prompt: TunedPrompt, target: Config, hub: PoolHub) -> dict[str, float]:
    """Test accuracy on a target: of the prompt, with its readout where the classes are its own, and of the plain."""
    with closing(hub.channel(scorer_key(target))) as pool:
        facts = pool.facts()
        images = facts.images["test"]
        readout = prompt.readout if facts.classnames == prompt.card.classnames else None
        tuned = accuracy_on_test(pool, prompt.prompt, images, readout=readout)
        plain = accuracy_on_test(pool, facts.template, images)
    return {TUNED: tuned, PLAIN_TEMPLATE: plain}
