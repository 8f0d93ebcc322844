"""Configs from YAML, and faults in one line."""

import re
import shlex
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from zip_ray.config.fields import class_of
from zip_ray.config.inert import require_effect
from zip_ray.config.merging import Tree, leaves
from zip_ray.config.old_names import refuse_old_names
from zip_ray.config.plain_yaml import YamlFault, line_of, load_yaml
from zip_ray.config.shipped import shipped_configs
from zip_ray.config.task import BUILT_IN
from zip_ray.config.tree import CHOOSERS, UNKNOWN_CHOICE, Config, completed
from zip_ray.errors import InputError

SCHEMA = "schema_version"
"""Key of the schema number in files that zip-ray writes."""
VERSION, FIRST_VERSION = 2, 1
"""The current schema, and that of files without a number, whose fields had other names."""
WANTED = "Input should be "
"""How pydantic's messages about a value begin."""
PLAIN = {
    r"a valid dictionary( or instance of \w+)?": "a mapping of fields",
    "a valid tuple": "a list",
    r", unable to parse string as an? \w+": "",
}
"""Patterns of Python's own terms in those messages, with what replaces them."""


def load_config(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises:
        InputError: no such file, not YAML, a suite, an unknown key, a value of the wrong type or range, or a field
            without effect.
    """
    tree = config_tree(path)
    require_effect(tree, str(path))
    return validate(tree, str(path))


def config_tree(path: Path, written: bool = False) -> Tree:
    """What the file of one run's config gives, not validated.

    Args:
        path: the file.
        written: whether zip-ray wrote it itself, and with it other files of the same version.

    Raises:
        InputError: no such file, not YAML, a suite, or written by another version of zip-ray.
    """
    tree = read_tree(path, written)
    if "methods" in tree:
        raise InputError(f"{path}: 'methods' is of a suite, not of one run: give it to `zip-ray compare`")
    return tree


def read_tree(path: Path, written: bool = False) -> Tree:
    """The mapping that a YAML file holds; arguments as `config_tree` takes them.

    Raises:
        InputError: no such file, not YAML, something else than a mapping, or written by another version of zip-ray.
    """
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {_instead(path)}") from error
    except YamlFault as fault:
        raise InputError(f"{path}:{fault.line}: {fault}") from fault
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if tree is not None and not isinstance(tree, dict):
        raise InputError(f"{path}: holds a {type(tree).__name__}; a config is a mapping of sections")
    read: Tree = tree or {}
    schema = read.pop(SCHEMA, FIRST_VERSION if written else VERSION)
    if schema != VERSION:
        raise InputError(
            f"{path}: written by {'an earlier' if schema == FIRST_VERSION else 'another'} version of zip-ray (schema "
            f"{schema}, this one has {VERSION}): use that version, or start a new run"
        )
    return read


def _instead(path: Path) -> str:
    """What to give in place of a path that is no readable file."""
    if path.is_dir():
        return f"give a file; for a folder of images: zip-ray tune folder --task.root {shlex.quote(str(path))}"
    if str(path) in BUILT_IN:
        return f"it is a task, not a config: zip-ray tune quickstart --task.name {path}"
    near = get_close_matches(str(path), shipped_configs(), 1)
    return f"did you mean {near[0]}?" if near else "give a file, or a name that `zip-ray configs` lists"


def validate(tree: Tree, source: str) -> Config:
    """The config that a tree of plain values describes.

    Raises:
        InputError: one line that names source, field, value and remedy of the first fault.
    """
    refuse_old_names(leaves(tree), source)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        line = explain(error, tree=tree)
        raise InputError(f"{placed(source, error)}: {line}" if source else line) from error


def placed(source: str, error: ValidationError, section: str | None = None) -> str:
    """The file that has been validated, with the line of its first fault where it gives the field.

    Args:
        source: the file, or what else was validated.
        error: what pydantic found.
        section: where in the file it was found; None for the whole.
    """
    keys = [] if section is None else [section]
    with suppress(OSError, ValueError, yaml.YAMLError):
        if line := line_of(Path(source).read_text(encoding="utf-8"), [*keys, *error.errors()[0]["loc"]]):
            return f"{source}:{line}"
    return source


def explain(error: ValidationError, root: type[BaseModel] = Config, tree: Tree | None = None) -> str:
    """One line about the first fault of a validation: field, value, remedy.

    Args:
        error: what pydantic found.
        root: the class that was validated.
        tree: what it was given, where that is a config.
    """
    faults = error.errors(include_url=False)
    fault, location = faults[0], faults[0]["loc"]
    if fault["type"] == UNKNOWN_CHOICE:
        return fault["msg"]
    field = _field(root, location)
    if fault["type"] == "extra_forbidden":
        return f"{field}: unknown key; {_known(root, location, tree or {})}"
    if fault["type"] == "missing":
        return f"{field}: missing: give one"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{field}: {message}" if location else message
    others = (other["msg"] for other in faults[1:] if _field(root, other["loc"]) == field)  # of a union, one a member
    wanted = " or ".join([message, *(text.removeprefix(WANTED) for text in others)])
    for python, plain in PLAIN.items():
        wanted = re.sub(python, plain, wanted)
    return f"{field}: {fault['input']!r}: {wanted}"


def _field(root: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """A fault's field; pydantic puts what part of a union did not fit at the end."""
    return ".".join(str(part) for part in (location[:2] if root is Config else location)) or "config"


def _known(root: type[BaseModel], location: tuple[int | str, ...], tree: Tree) -> str:
    """The fields beside a fault's; in a section with choices those of the class that is chosen, which is named."""
    one, where = root, "here"
    if root is Config and len(location) > 1:
        section = str(location[0])
        one = class_of(tree, section) or root
        if section in CHOOSERS:
            chooser, _ = CHOOSERS[section]
            where = f"with {section}.{chooser} {completed(tree)[section][chooser]}"
    else:
        for part in location[:-1]:
            annotation = one.model_fields[str(part)].annotation
            if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
                break
            one = annotation
    return f"known {where}: {', '.join(one.model_fields)}"
