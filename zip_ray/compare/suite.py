"""A suite: methods x tasks x shots x seeds under one protocol, as YAML; and the runs that it comes to."""

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from zip_ray.config import (
    BUILT_IN,
    ROOTED,
    BudgetConfig,
    ClusterConfig,
    Config,
    Count,
    OutputConfig,
    Section,
    Seed,
    TrackingConfig,
    explain,
    read_tree,
    validate,
)
from zip_ray.errors import InputError

ROOT = Path(__file__).resolve().parent.parent.parent
COMMON = ("cluster", "tracking")
"""Sections that are the same for all runs."""
NEW_CLASSES = "new classes"
"""base-to-new: label of the target."""
Tree = dict[str, Any]
"""A part of a config as plain values, section by section."""


class Common(Section):
    """What of `base` stands by itself; the rest makes a config only with a method and a task."""

    budget: BudgetConfig = BudgetConfig()
    cluster: ClusterConfig = ClusterConfig()
    output: OutputConfig = OutputConfig()
    tracking: TrackingConfig = TrackingConfig()


class Suite(Section):
    """What is compared. A run's config is put together from, each over the one before: the method's file, `base`, the
    method's own changes, the task, shots and seed."""

    name: str = Field(pattern=r"^[\w-]+$")
    """Of the suite; its folder is runs/suites/NAME."""
    protocol: Literal["few-shot", "base-to-new", "transfer", "out-of-distribution"] = "few-shot"
    """few-shot = tuned and tested on the same classes; base-to-new = tuned on the first half of the classes, tested on
    either half; transfer = tested on `targets` too, other data with classes of their own; out-of-distribution = tested
    on `targets` too, shifted test sets of the same classes."""
    shots: tuple[Count, ...] = (16,)
    """Training images a class."""
    seeds: tuple[Seed, ...] = (1, 2, 3)
    tasks: dict[str, Tree] = Field(min_length=1)
    """By label, the fields of the task section; the label of a built-in task may stand for its name. In YAML also a
    list of names of tasks and of config files with a task section."""
    targets: dict[str, Tree] = Field(default={})
    """transfer, out-of-distribution: by label, fields that replace those of the run's task; the label of a built-in
    task may stand for its name. A target with a name takes over no template, test set or root, but for the root that
    its kind needs and it does not give."""
    methods: dict[str, Tree] = Field(min_length=1)
    """By label: `file`, a config file, and changes to it, section by section; `by_task`, further changes by label
    of the task. In YAML also a list of files."""
    base: Tree = Field(default={})
    """What all runs have in common, say budget and cluster."""
    at_once: Count | Literal["auto"] = "auto"
    """Runs at a time; auto = as many as keep all actors busy. Seconds of runs are told apart by method only where it
    is 1."""

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, tree: Any) -> Any:
        """Lists of names and files, as mappings."""
        if not isinstance(tree, dict):
            return tree
        tasks, methods = tree.get("tasks"), tree.get("methods")
        read = dict(tree)
        if isinstance(tasks, list):
            read["tasks"] = _by_label(_task(task) for task in tasks)
        if isinstance(methods, list):
            read["methods"] = _by_label((Path(str(file)).stem, {"file": str(file)}) for file in methods)
        return read

    @field_validator("shots", "seeds")
    @classmethod
    def _each_once(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        if not numbers or len(set(numbers)) < len(numbers):
            raise ValueError(f"{list(numbers)}: give one or more, each once")
        return numbers

    @field_validator("tasks", "targets")
    @classmethod
    def _named_by_label(cls, tasks: dict[str, Tree]) -> dict[str, Tree]:
        """A task without a name is the built-in one that its label names, unless that speaks of its test set."""
        return {
            label: {"name": label, **task} if label in BUILT_IN and task.get("test_set") != label else task
            for label, task in tasks.items()
        }

    @model_validator(mode="after")
    def _tasks_have_names(self) -> "Suite":
        common = self.base.get("task")
        names = common.keys() if isinstance(common, dict) else ()
        if unnamed := [label for label, task in self.tasks.items() if "name" not in (*task, *names)]:
            raise ValueError(f"tasks.{unnamed[0]}: no name: give one, or a label of {', '.join(BUILT_IN)}")
        return self

    @model_validator(mode="after")
    def _targets_fit(self) -> "Suite":
        applied = self.protocol in ("transfer", "out-of-distribution")
        if applied != bool(self.targets):
            raise ValueError(f"protocol {self.protocol} {'needs' if applied else 'has no'} targets")
        return self

    @model_validator(mode="after")
    def _by_task_names_tasks(self) -> "Suite":
        for method, changes in self.methods.items():
            own = changes.get("by_task", {})
            if not isinstance(own, dict) or not all(isinstance(one, dict) for one in own.values()):
                raise ValueError(f"methods.{method}.by_task: give changes, section by section, by label of a task")
            if unknown := own.keys() - self.tasks.keys():
                first, known = min(map(str, unknown)), ", ".join(self.tasks)
                raise ValueError(f"methods.{method}.by_task: '{first}' is no task of the suite: choose of {known}")
        return self

    def common(self, source: Path) -> Config:
        """A config with the parts of `base` that the command line shows and changes, and else the defaults.

        Args:
            source: the suite's file, for messages.

        Raises:
            InputError: one of them is not valid.
        """
        try:
            common = Common.model_validate({name: self.base[name] for name in Common.model_fields if name in self.base})
        except ValidationError as error:
            raise InputError(f"{source}: base.{explain(error, Common)}") from error
        return Config().model_copy(update=dict(common))

    def rooted(self, root: Path) -> "Suite":
        """The suite with its data in another place: the root of every task and target that has one."""

        def moved(tasks: Mapping[str, Tree]) -> dict[str, Tree]:
            return {label: {**task, "root": str(root)} if task.get("root") else task for label, task in tasks.items()}

        return self.model_copy(update={"tasks": moved(self.tasks), "targets": moved(self.targets)})

    def changed(self, before: Config, **sections: Section) -> "Suite":
        """The suite with `base` changed in what differs from `before`, field by field; a method's own budget, and that
        of its file where `base` has none, is lowered to the new one where that is smaller."""
        changes = {
            name: {key: value for key, value in section.model_dump(mode="json").items() if value != was[key]}
            for name, section in sections.items()
            for was in [getattr(before, name).model_dump(mode="json")]
        }
        limits = changes.get("budget", {})
        open_to_file = limits.keys() - self.base.get("budget", {}).keys()
        methods = {
            label: _capped(merge(_file_budget(own, open_to_file), own), limits) for label, own in self.methods.items()
        }
        return self.model_copy(update={"base": merge(self.base, changes), "methods": methods})


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


def load_suite(path: Path) -> Suite:
    """Read and validate a YAML file.

    Raises:
        InputError: no such file, not YAML, a config of one run, an unknown key, a value of the wrong type or range.
    """
    tree = read_tree(path)
    if "methods" not in tree:
        raise InputError(f"{path}: no suite, it has no 'methods': give a config of one run to `run.py tune`")
    try:
        return Suite.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, Suite)}") from error


def plan(suite: Suite, folder: Path) -> list[Planned]:
    """The runs of a suite, those that can share a scorer next to each other.

    Raises:
        InputError: the config of a run is not valid, or two runs would have the same folder.
    """
    runs = [
        _planned(suite, folder, method, task, shots, seed)
        for task in suite.tasks
        for shots in suite.shots
        for seed in suite.seeds
        for method in suite.methods
    ]
    for section in COMMON:
        if len({getattr(run.config, section) for run in runs}) > 1:
            raise InputError(f"{suite.name}: {section} differs between methods: all runs share it, so set it in base")
    if len({run.folder for run in runs}) < len(runs):
        raise InputError(f"{suite.name}: two methods or tasks have labels that differ in signs only: rename one")
    return runs


def _planned(suite: Suite, folder: Path, method: str, task: str, shots: int, seed: int) -> Planned:
    classes = {"classes": "base"} if suite.protocol == "base-to-new" else {}
    own = {**suite.tasks[task], "shots": shots, **classes}
    place = folder / "runs" / _slug(task) / f"{shots}-shot" / _slug(method) / f"seed-{seed}"
    common = {"task": own, "seed": seed, "output": {"dir": str(place)}}
    whole = _method(suite, method)
    by_task = whole.pop("by_task", {})
    tree = merge(merge(whole, by_task.get(task, {})), common)
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


def _method(suite: Suite, label: str) -> Tree:
    """Its file, `base` and its changes, put together."""
    changes = dict(suite.methods[label])
    return merge(merge(_start(changes.pop("file", None)), suite.base), changes)


def _start(file: object | None) -> Tree:
    """What a method's file says."""
    return {} if file is None else read_tree(_find(file))


def _file_budget(method: Tree, fields: Set[str]) -> Tree:
    """Those limits that a method's file sets."""
    budget = _start(method.get("file")).get("budget")
    found = budget if isinstance(budget, dict) else {}
    return {"budget": {key: limit for key, limit in found.items() if key in fields}}


def _capped(changes: Tree, limits: Tree) -> Tree:
    """A method's changes, by task too, with no budget above those limits."""
    capped = dict(changes)
    if isinstance(own := changes.get("budget"), dict):
        capped["budget"] = own | {key: _lower(own[key], limit) for key, limit in limits.items() if key in own}
    if isinstance(by_task := changes.get("by_task"), dict):
        capped["by_task"] = {task: _capped(tree, limits) for task, tree in by_task.items()}
    return capped


def _lower(own: Any, limit: float | None) -> Any:
    """The smaller of two limits, None being none; what is no number stays, to be refused where it is validated."""
    if own is None or limit is None:
        return limit if own is None else own
    return min(own, limit) if isinstance(own, int | float) else own


def merge(tree: Tree, over: Tree) -> Tree:
    """`tree` with the values of `over`, section by section."""
    both = {key: merge(tree[key], value) for key, value in over.items() if _is_section(tree.get(key), value)}
    return {**tree, **over, **both}


def _is_section(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def _by_label(entries: Iterable[tuple[str, Tree]]) -> dict[str, Tree]:
    found: dict[str, Tree] = {}
    for label, tree in entries:
        if label in found:
            raise ValueError(f"two entries of a list are called '{label}': give each its label, as a mapping")
        found[label] = tree
    return found


def _task(task: Any) -> tuple[str, Tree]:
    """Label and fields of an entry of a list of tasks."""
    if isinstance(task, dict):
        return str(task.get("name")), task
    name = str(task)
    if not name.endswith(".yaml"):
        return name, {"name": name}
    fields = read_tree(_find(name)).get("task", {})
    return Path(name).stem, fields


def _find(file: object) -> Path:
    """A file named in a suite: where the user stands, or beside the installed configs."""
    path = Path(str(file))
    return path if path.exists() or path.is_absolute() else ROOT / path


def _slug(label: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", label).strip("-.").lower()


def dump(suite: Suite) -> bytes:
    """The suite as YAML, with nothing left to look up: a method's file may change, or not be there, later."""
    methods = {label: _method(suite, label) for label in suite.methods}
    whole = suite.model_copy(update={"methods": methods})
    return yaml.safe_dump(whole.model_dump(mode="json"), sort_keys=False, allow_unicode=True).encode()
