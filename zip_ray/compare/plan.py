"""The runs that a suite comes to: each a config of its own, with what its tuned prompt is tested on besides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from zip_ray.compare.layers import BY_TASK, Tree, merge
from zip_ray.compare.suite import Suite, whole_method
from zip_ray.config.reading import validate
from zip_ray.config.task import ROOTED
from zip_ray.config.tree import Config
from zip_ray.errors import InputError

COMMON = ("cluster", "tracking")
"""Sections that are the same for all runs."""
NEW_CLASSES = "new classes"
"""base-to-new: label of the target."""


@dataclass(frozen=True)
class Planned:
    """One run of a suite."""

    method: str
    task: str
    shots: int
    seed: int
    config: Config
    targets: Mapping[str, Config]
    """What its tuned prompt is tested on besides, by label."""

    @property
    def folder(self) -> Path:
        """Its run folder."""
        assert self.config.output.dir is not None
        return self.config.output.dir

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.task}, {self.shots} shots, {self.method}, seed {self.seed}"


def plan(suite: Suite, folder: Path) -> list[Planned]:
    """The runs of a suite, those that can share a scorer next to each other.

    Raises:
        InputError: the config of a run is not valid, or two runs would have the same folder.
    """
    methods = {label: whole_method(suite, label) for label in suite.methods}
    cells = product(suite.tasks, suite.shots, suite.seeds, suite.methods)
    runs = [_planned(suite, methods, folder, cell) for cell in cells]
    for section in COMMON:
        if len({getattr(run.config, section) for run in runs}) > 1:
            raise InputError(f"{suite.name}: {section} differs between methods: all runs share it, so set it in base")
    if len({run.folder for run in runs}) < len(runs):
        raise InputError(f"{suite.name}: two methods or tasks have labels that differ in signs only: rename one")
    return runs


def _planned(suite: Suite, methods: Mapping[str, Tree], folder: Path, cell: tuple[str, int, int, str]) -> Planned:
    task, shots, seed, method = cell
    classes = {"classes": "base"} if suite.protocol == "base-to-new" else {}
    own = {**suite.tasks[task], "shots": shots, **classes}
    place = folder / "runs" / _slug(task) / f"{shots}-shot" / _slug(method) / f"seed-{seed}"
    common = {"task": own, "seed": seed, "output": {"dir": str(place)}}
    whole = {key: value for key, value in methods[method].items() if key != BY_TASK}
    tree = merge(merge(whole, methods[method].get(BY_TASK, {}).get(task, {})), common)
    source = f"{suite.name}: {method}, {task}"
    targets = {NEW_CLASSES: {"classes": "new"}} if suite.protocol == "base-to-new" else suite.targets
    others = {label: validate(_elsewhere(tree, fields), f"{source}, {label}") for label, fields in targets.items()}
    return Planned(method, task, shots, seed, validate(tree, source), others)


def _elsewhere(tree: Tree, target: Tree) -> Tree:
    """A run's config with the task of a target. Other data have a template, test sets and a place of their own; only
    where their kind needs a root and the target gives none do they lie where the run's data lie."""
    own = dict(tree["task"])
    if "name" in target:
        rooted = str(target["name"]).partition(":")[0] in ROOTED
        for field in ("template", "test_set", *(() if rooted else ("root",))):
            own.pop(field, None)
    return {**tree, "task": own | target}


def _slug(label: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", label).strip("-.").lower()
