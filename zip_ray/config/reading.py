"""Configs from YAML, and faults in one line."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from zip_ray.config.tree import Config
from zip_ray.errors import InputError


def load_config(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises:
        InputError: no such file, not YAML, a suite, an unknown key, a value of the wrong type or range.
    """
    tree = read_tree(path)
    if "methods" in tree:
        raise InputError(f"{path}: 'methods' is of a suite, not of one run: give it to `run.py compare`")
    return validate(tree, source=str(path))


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: no such file, not YAML, or something else than a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the path of a config (see configs/)") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if tree is not None and not isinstance(tree, dict):
        raise InputError(f"{path}: holds a {type(tree).__name__}; a config is a mapping of sections")
    return tree or {}


def validate(tree: dict[str, Any], source: str) -> Config:
    """The config that a tree of plain values describes.

    Raises:
        InputError: one line that names source, field, value and remedy of the first fault.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from error


def explain(error: ValidationError, root: type[BaseModel] = Config) -> str:
    """One line about the first fault of a validation of `root`: field, value, remedy."""
    fault = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in fault["loc"]) or "config"
    if fault["type"] == "extra_forbidden":
        return f"{field}: unknown key; known here: {', '.join(_siblings(root, fault['loc']))}"
    if fault["type"] == "missing":
        return f"{field}: missing: give one"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{field}: {message}" if fault["loc"] else message
    return f"{field}: {fault['input']!r}: {message}"


def _siblings(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    section = root
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return list(section.model_fields)
