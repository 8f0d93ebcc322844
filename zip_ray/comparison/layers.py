"""Parts of configs as plain values, merged before they are validated: a method's file, and the changes to it."""

from collections.abc import Set
from typing import Any

from zip_ray.config.merging import Tree
from zip_ray.config.reading import config_tree
from zip_ray.config.shipped import find_config

FILE = "file"
"""Key of a method's file."""
BY_TASK = "by_task"
"""Key of a method's changes by label of the task."""


def read_method(file: object | None) -> Tree:
    """What a method's file says, or that itself; nothing where it has none.

    Raises:
        InputError: no such file, or not YAML.
    """
    if file is None:
        return {}
    return file if isinstance(file, dict) else config_tree(find_config(str(file)))


def file_budget(method: Tree, fields: Set[str]) -> Tree:
    """Those of these limits that a method's file sets."""
    budget = read_method(method.get(FILE)).get("budget")
    found = budget if isinstance(budget, dict) else {}
    return {"budget": {key: limit for key, limit in found.items() if key in fields}}


def capped(changes: Tree, limits: Tree) -> Tree:
    """A method's changes, including those by task, with no budget above the limits."""
    lowered = dict(changes)
    if isinstance(own := changes.get("budget"), dict):
        lowered["budget"] = own | {key: _lower(own[key], limit) for key, limit in limits.items() if key in own}
    if isinstance(by_task := changes.get(BY_TASK), dict):
        lowered[BY_TASK] = {task: capped(tree, limits) for task, tree in by_task.items()}
    return lowered


def _lower(own: Any, limit: float | None) -> Any:
    """The smaller of two limits, None being no limit; a value that is not a number is left to the validation."""
    if own is None or limit is None:
        return limit if own is None else own
    return min(own, limit) if isinstance(own, int | float) else own
