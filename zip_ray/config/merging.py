"""Configs as plain values, section by section: the form in which files and command lines are put together."""

from collections.abc import Iterator
from typing import Any

Tree = dict[str, Any]
"""A config, or a part of one, as plain values."""


def merge(tree: Tree, over: Tree) -> Tree:
    """`tree` with the values of `over`, section by section."""
    both = {key: merge(tree[key], value) for key, value in over.items() if _is_section(tree.get(key), value)}
    return {**tree, **over, **both}


def leaves(tree: Tree) -> Iterator[str]:
    """Dotted paths of what a tree gives."""
    for section, fields in tree.items():
        if isinstance(fields, dict):
            yield from (f"{section}.{name}" for name in fields)
        else:
            yield section


def without(tree: Tree, paths: set[str]) -> Tree:
    """A tree less some leaves."""
    return {
        section: {name: value for name, value in fields.items() if f"{section}.{name}" not in paths}
        if isinstance(fields, dict)
        else fields
        for section, fields in tree.items()
    }


def _is_section(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)
