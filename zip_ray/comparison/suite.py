"""A suite: methods x tasks x shots x seeds under one protocol, as YAML."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from zip_ray.comparison.layers import BY_TASK, FILE, capped, file_budget, read_method
from zip_ray.config.budget import BudgetConfig
from zip_ray.config.inert import overlay, require_effect
from zip_ray.config.merging import Tree, leaves, merge
from zip_ray.config.model import ModelConfig
from zip_ray.config.old_names import refuse_old_names
from zip_ray.config.output import OutputConfig
from zip_ray.config.reading import SCHEMA, VERSION, explain, placed, read_tree
from zip_ray.config.resources import ClusterConfig
from zip_ray.config.secrets import without_secrets
from zip_ray.config.section import Count, Section, Seed
from zip_ray.config.shipped import find_config
from zip_ray.config.task import BUILT_IN
from zip_ray.config.tracking import TrackingConfig
from zip_ray.config.tree import Config, ModelSection, completed
from zip_ray.errors import InputError


class Common(Section):
    """What of `base` stands by itself; the rest makes a config only with a method and a task."""

    budget: BudgetConfig = BudgetConfig()
    cluster: ClusterConfig = ClusterConfig()
    output: OutputConfig = OutputConfig()
    tracking: TrackingConfig = TrackingConfig()
    model: ModelSection = ModelConfig()


class Suite(Section):
    """What is compared. A run's config is put together from, each over the one before: the method's file, `base`, the
    method's own changes, the task, shots and seed."""

    name: str = Field(pattern=r"^[\w-]+$")
    """Name of the suite; its folder is runs/suites/NAME."""
    protocol: Literal["few-shot", "base-to-new", "transfer", "out-of-distribution"] = "few-shot"
    """few-shot = tuned and tested on the same classes; base-to-new = tuned on the first half of the classes, tested on
    either half; transfer = tested on `targets` too, other data with classes of their own; out-of-distribution = tested
    on `targets` too, shifted test sets of the same classes."""
    shots: tuple[Count, ...] = (16,)
    """Training images per class."""
    seeds: tuple[Seed, ...] = (1, 2, 3)
    tasks: dict[str, Tree] = Field(min_length=1)
    """By label, the fields of the task section; the label of a built-in task may stand for its name. In YAML also a
    list of names of tasks and of config files with a task section."""
    targets: dict[str, Tree] = Field(default={})
    """transfer, out-of-distribution: by label, fields that replace those of the run's task; the label of a built-in
    task may stand for its name. A target with a name takes over no template, test set or root, but for the root that
    its kind needs and it does not give."""
    methods: dict[str, Tree] = Field(min_length=1)
    """By label: `file`, a config file (or what one holds), and changes to it, section by section; `by_task`, further
    changes by label of the task. In YAML also a list of files."""
    base: Tree = Field(default={})
    """What the runs have in common, say budget and cluster; a run takes of it what has an effect beside its method."""
    at_once: Count | Literal["auto"] = "auto"
    """Runs at a time; auto = as many as keep all actors busy. Seconds can be compared between methods only if it is
    1."""

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
            read["methods"] = _by_label(_method(file) for file in methods)
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
        """A task without a name is the built-in one of its label, unless it sets a test set."""
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
            own = changes.get(BY_TASK, {})
            if not isinstance(own, dict) or not all(isinstance(one, dict) for one in own.values()):
                raise ValueError(f"methods.{method}.by_task: give changes, section by section, by label of a task")
            if unknown := own.keys() - self.tasks.keys():
                first, known = min(map(str, unknown)), ", ".join(self.tasks)
                raise ValueError(f"methods.{method}.by_task: '{first}' is not a task of the suite: choose {known}")
        return self

    def common(self, source: Path) -> Config:
        """A config with the parts of `base` that the command line shows and changes, and else the defaults.

        Args:
            source: the suite's file, for messages.

        Raises:
            InputError: one of them is not valid.
        """
        refuse_old_names(leaves(self.base), f"{source}: base")
        try:
            base = completed({name: self.base[name] for name in Common.model_fields if name in self.base})
            common = Common.model_validate({name: base[name] for name in Common.model_fields if name in base})
        except ValidationError as error:
            raise InputError(f"{placed(str(source), error, 'base')}: base.{explain(error, Common)}") from error
        return Config().model_copy(update=dict(common))

    def rooted(self, root: Path) -> "Suite":
        """The suite with its data in another place: the root of every task and target that has one, and of `base`."""

        def moved(task: Tree) -> Tree:
            return {**task, "root": str(root)} if task.get("root") else task

        tasks, targets = ({label: moved(task) for label, task in group.items()} for group in (self.tasks, self.targets))
        common = self.base.get("task")
        base = {**self.base, "task": moved(common)} if isinstance(common, dict) else self.base
        return self.model_copy(update={"base": base, "tasks": tasks, "targets": targets})

    def changed(self, given: Tree) -> "Suite":
        """The suite with `base` changed; a method's own budget, and that of its file where `base` has none, is lowered
        to the new one where that is smaller.

        Args:
            given: fields of budget, cluster, model and tracking.

        Raises:
            InputError: one of them has no effect.
        """
        limits = given.get("budget", {})
        open_to_file = limits.keys() - self.base.get("budget", {}).keys()
        methods = {
            label: capped(merge(file_budget(own, open_to_file), own), limits) for label, own in self.methods.items()
        }
        base = overlay(self.base, given)
        require_effect(base, spared=set(leaves(base)) - set(leaves(given)))
        return self.model_copy(update={"base": base, "methods": methods})


def load_suite(path: Path, written: bool = False) -> Suite:
    """Read and validate a YAML file.

    Args:
        path: the file.
        written: whether zip-ray wrote it itself.

    Raises:
        InputError: no such file, not YAML, a config of one run, an unknown key, a value of the wrong type or range.
    """
    return suite_of(read_tree(path, written), path)


def suite_of(tree: Tree, source: Path) -> Suite:
    """The suite that a tree of plain values describes.

    Args:
        tree: as a YAML file holds it.
        source: where it was read, for messages.

    Raises:
        InputError: as `load_suite`.
    """
    if "methods" not in tree:
        raise InputError(f"{source}: not a suite, it has no 'methods': give a config of one run to `zip-ray tune`")
    try:
        return Suite.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{placed(str(source), error)}: {explain(error, Suite)}") from error


def _by_label(entries: Iterable[tuple[str, Tree]]) -> dict[str, Tree]:
    found: dict[str, Tree] = {}
    for label, tree in entries:
        if label in found:
            raise ValueError(f"two entries of a list are called '{label}': give each its label, as a mapping")
        found[label] = tree
    return found


def _method(file: Any) -> tuple[str, Tree]:
    """Label and fields of an entry of a list of methods."""
    if not isinstance(file, str):
        raise ValueError(
            f"methods: {file!r} in a list of config files: to give labels or changes, write a mapping of labels, "
            "`LABEL: {file: CONFIG, ...}`, without dashes"
        )
    return Path(file).stem, {FILE: file}


def _task(task: Any) -> tuple[str, Tree]:
    """Label and fields of an entry of a list of tasks."""
    if isinstance(task, dict):
        return str(task.get("name")), task
    name = str(task)
    if not name.endswith(".yaml"):
        return name, {"name": name}
    fields = read_tree(find_config(name)).get("task", {})
    return Path(name).stem, fields


def dump(suite: Suite) -> bytes:
    """The suite as YAML, with nothing left to look up: a method's file may change, or not be there, later."""
    methods = {
        label: {**changes, FILE: read_method(changes[FILE])} if FILE in changes else changes
        for label, changes in suite.methods.items()
    }
    whole = without_secrets(suite.model_copy(update={"methods": methods}).model_dump(mode="json"))
    return yaml.safe_dump({SCHEMA: VERSION, **whole}, sort_keys=False, allow_unicode=True).encode()
