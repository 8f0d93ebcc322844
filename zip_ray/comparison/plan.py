"""The runs of a suite: each has its own config, and the targets its tuned prompt is tested on."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from zip_ray.comparison.layers import BY_TASK, FILE, read_method
from zip_ray.comparison.suite import Suite
from zip_ray.config.inert import idle_fields, overlay, require_effect
from zip_ray.config.merging import Tree, leaves, without
from zip_ray.config.reading import validate
from zip_ray.config.task import of_other_data
from zip_ray.config.tree import Config
from zip_ray.errors import InputError

COMMON = ("cluster", "tracking")
"""Sections that are the same for all runs."""
Cell = tuple[str, int, int, str]
"""Task, shots, seed and method of a run."""
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
        """A name for display."""
        return f"{self.task}, {self.shots} shots, {self.method}, seed {self.seed}"


@dataclass(frozen=True)
class Selection:
    """Some tasks, methods and seeds of a suite; all where none is given."""

    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def of(self, suite: Suite, runs: Sequence[Planned]) -> list[Planned]:
        """The runs that are selected.

        Raises:
            InputError: the suite has no such task, method or seed.
        """
        for option, known in (("tasks", suite.tasks), ("methods", suite.methods), ("seeds", suite.seeds)):
            for name in getattr(self, option):
                if name not in known:
                    raise InputError(f"--{option}: '{name}' is not in {suite.name}: choose {_list(known)}")
        return [
            run
            for run in runs
            if run.task in (self.tasks or suite.tasks)
            and run.method in (self.methods or suite.methods)
            and run.seed in (self.seeds or suite.seeds)
        ]


def _list(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


EVERYTHING = Selection()


def plan(suite: Suite, folder: Path) -> list[Planned]:
    """The runs of a suite, those that can share a scorer next to each other.

    Raises:
        InputError: the config of a run is not valid, or two runs would have the same folder.
    """
    cells = product(suite.tasks, suite.shots, suite.seeds, suite.methods)
    files = {label: read_method(own.get(FILE)) for label, own in suite.methods.items()}
    trees = {cell: _tree(suite, files[cell[-1]], folder, cell) for cell in cells}
    _require_use(suite, trees.values())
    runs = [_planned(suite, cell, tree) for cell, tree in trees.items()]
    for section in COMMON:
        if len({getattr(run.config, section) for run in runs}) > 1:
            raise InputError(f"{suite.name}: {section} differs between methods: all runs share it, so set it in base")
    if len({run.folder for run in runs}) < len(runs):
        raise InputError(f"{suite.name}: two methods or tasks have labels that differ in signs only: rename one")
    return runs


def _tree(suite: Suite, file: Tree, folder: Path, cell: Cell) -> Tree:
    """A run's config as plain values: each layer over the one before.

    Raises:
        InputError: an option of the method, its file or the task has no effect in the run.
    """
    task, shots, seed, method = cell
    own = {name: fields for name, fields in suite.methods[method].items() if name not in (FILE, BY_TASK)}
    by_task = suite.methods[method].get(BY_TASK, {}).get(task, {})
    classes = {"classes": "base"} if suite.protocol == "base-to-new" else {}
    place = folder / "runs" / _slug(task) / f"{shots}-shot" / _slug(method) / f"seed-{seed}"
    common = {"task": {**suite.tasks[task], "shots": shots, **classes}, "seed": seed, "output": {"dir": str(place)}}
    tree = overlay(file, suite.base, own, by_task, common)
    of_base = set(leaves(suite.base)) - {path for layer in (own, by_task, common) for path in leaves(layer)}
    require_effect(tree, _source(suite, cell), spared=of_base)
    return without(tree, {path for path, _ in idle_fields(tree)})


def _require_use(suite: Suite, trees: Iterable[Tree]) -> None:
    """Refuse an option of `base` without effect in any run.

    Raises:
        InputError: names it.
    """
    used = {path for tree in trees for path in leaves(tree)}
    if unused := [path for path in leaves(suite.base) if path not in used]:
        raise InputError(f"{suite.name}: base.{unused[0]}: has no effect in any run: leave it out")


def _planned(suite: Suite, cell: Cell, tree: Tree) -> Planned:
    task, shots, seed, method = cell
    source = _source(suite, cell)
    targets = {NEW_CLASSES: {"classes": "new"}} if suite.protocol == "base-to-new" else suite.targets
    others = {label: validate(_elsewhere(tree, fields), f"{source}, {label}") for label, fields in targets.items()}
    return Planned(method, task, shots, seed, validate(tree, source), others)


def _source(suite: Suite, cell: Cell) -> str:
    """Where the config of a run comes from, for messages."""
    return f"{suite.name}: {cell[-1]}, {cell[0]}"


def _elsewhere(tree: Tree, target: Tree) -> Tree:
    """A run's config with the task of a target."""
    own = of_other_data(tree["task"], target) if "name" in target else tree["task"]
    return {**tree, "task": own | target}


def _slug(label: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", label).strip("-.").lower()
