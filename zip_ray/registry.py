"""The user's own methods, prompt spaces, tasks and scorers, by name: an entry point, or `package.module:Name`.

Each is a class whose attribute `Options` is the class of its section of the config. A name means the same class in
every process: actors import it by the same path, or report that they cannot.
"""

import importlib
import importlib.util
import logging
import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from zip_ray.errors import InputError, one_line

GROUPS = {
    "optimizer": "zip_ray.optimizers",
    "prompt": "zip_ray.prompt_spaces",
    "task": "zip_ray.tasks",
    "model": "zip_ray.scorers",
}
"""By section of the config: the group of its entry points."""
FIELDS = {"optimizer": "method", "prompt": "space", "task": "name", "model": "scorer"}
"""By section: the field that has the name."""
_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_log = logging.getLogger(__name__)
_used: dict[str, dict[str, Any]] = {section: {} for section in GROUPS}
"""By section and `package.module:Name`: the classes that this process has found."""


def is_own(section: str, name: object) -> bool:
    """Whether a name is that of an entry point, or has the form of a path; built-in names are not asked about."""
    return isinstance(name, str) and (name in _entries(section) or _PATH.fullmatch(name) is not None)


def find(section: str, name: str) -> Any:
    """The class of a name.

    Raises:
        InputError: it cannot be imported, or is no class with `Options`; the line names field, value and remedy.
    """
    path = import_path(section, name)
    if path not in _used[section]:
        _used[section][path] = _imported(section, name, path)
    return _used[section][path]


def import_path(section: str, name: str) -> str:
    """`package.module:Name` of a name; an entry point's is in its metadata, which other nodes need not have."""
    entry = _entries(section).get(name)
    return name if entry is None else entry.value.partition(" ")[0]


def path_of(section: str, own: type) -> str:
    """The name by which a class can be found again.

    Raises:
        InputError: it cannot: it is defined within a function, or hidden by another.
    """
    path = f"{own.__module__}:{own.__qualname__}"
    if _PATH.fullmatch(path) is None or find(section, path) is not own:
        raise InputError(
            f"{section}.{FIELDS[section]}: {own.__qualname__} cannot be imported as {path}: define it at the top level "
            "of a module"
        )
    return path


def known(section: str) -> dict[str, Any]:
    """By name: the classes of all entry points, and those found by their path so far.

    An entry point whose package does not work is left out, with a warning.
    """
    found = {}
    for name in _entries(section):
        try:
            found[name] = find(section, name)
        except InputError as error:
            _log.warning("%s", error)
    named = {import_path(section, name) for name in found}
    return found | {path: own for path, own in _used[section].items() if path not in named}


def sources(names: Iterable[tuple[str, str]]) -> list[str]:
    """The files or folders of the top-level modules that names come from, for the workers of a cluster.

    Args:
        names: sections and names; built-in ones need nothing.
    """
    tops = {import_path(section, name).partition(":")[0].partition(".")[0] for section, name in names}
    found = []
    for top in sorted(tops - {"__main__", "zip_ray"}):
        spec = importlib.util.find_spec(top)
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            found.append(str(origin.parent if origin.name == "__init__.py" else origin))
    return found


@cache
def _entries(section: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUPS[section])}


def _imported(section: str, name: str, path: str) -> Any:
    field, (module, _, attributes) = f"{section}.{FIELDS[section]}", path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except Exception as error:  # whatever the module does when it is imported
        raise InputError(
            f"{field}: '{name}' cannot be imported ({one_line(error)}): correct the name, or install its package "
            "wherever the run and its actors are"
        ) from error
    if not isinstance(found, type) or not isinstance(getattr(found, "Options", None), type):
        raise InputError(f"{field}: '{name}' is not a class with Options: see docs/guides/extend.md")
    return found
