"""Parts of configs as plain values, put together before they are validated: a method's file, what is changed of it."""

from collections.abc import Set
from pathlib import Path
from typing import Any

from zip_ray.config.reading import read_tree
from zip_ray.files import packaged

Tree = dict[str, Any]
"""A part of a config as plain values, section by section."""
BY_TASK = "by_task"
"""Key of a method's changes by label of the task."""


def read_method(file: object | None) -> Tree:
    """What a method's file says; nothing where it has none.

    Raises:
        InputError: no such file, or not YAML.
    """
    return {} if file is None else read_tree(find(file))


def file_budget(method: Tree, fields: Set[str]) -> Tree:
    """Those limits that a method's file sets."""
    budget = read_method(method.get("file")).get("budget")
    found = budget if isinstance(budget, dict) else {}
    return {"budget": {key: limit for key, limit in found.items() if key in fields}}


def capped(changes: Tree, limits: Tree) -> Tree:
    """A method's changes, by task too, with no budget above those limits."""
    lowered = dict(changes)
    if isinstance(own := changes.get("budget"), dict):
        lowered["budget"] = own | {key: _lower(own[key], limit) for key, limit in limits.items() if key in own}
    if isinstance(by_task := changes.get(BY_TASK), dict):
        lowered[BY_TASK] = {task: capped(tree, limits) for task, tree in by_task.items()}
    return lowered


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


def find(file: object) -> Path:
    """A file named in a suite: relative to the working directory, or else one that ships with the package."""
    path = Path(str(file))
    return path if path.exists() or path.is_absolute() else packaged(str(path))
