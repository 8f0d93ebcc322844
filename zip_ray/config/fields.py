"""The fields of the config by their dotted paths, over the classes of all methods and spaces."""

from functools import reduce
from operator import or_
from typing import Any

from pydantic.fields import FieldInfo

from zip_ray import registry
from zip_ray.config.merging import Tree
from zip_ray.config.section import Section
from zip_ray.config.task import TaskConfig
from zip_ray.config.tree import BUILT_IN, CHOOSERS, Config, completed, options_class
from zip_ray.errors import InputError

CHOICES = {f"{section}.{field}" for section, (field, _) in CHOOSERS.items()}
"""Paths of the fields that choose the class of their section."""


def section_classes(section: str) -> dict[str, type[Section]]:
    """The classes that a section may have, by the choice that it takes ("" where there is none to make).

    The user's own classes are included once imported. A plain field of the root, such as `seed`, has no class, nor has
    a name that is no section, which is refused when the config is validated.
    """
    if section in registry.GROUPS:
        built_in = {"": TaskConfig} if section == "task" else BUILT_IN[section]
        return {**built_in, **{name: own.Options for name, own in registry.known(section).items()}}
    field = Config.model_fields.get(section)
    annotation = field.annotation if field is not None else None
    return {"": annotation} if isinstance(annotation, type) and issubclass(annotation, Section) else {}


def every_field() -> dict[str, FieldInfo]:
    """All fields by path; of several classes that have one, the first describes it."""
    found: dict[str, FieldInfo] = {}
    for section, info in Config.model_fields.items():
        classes = section_classes(section)
        if not classes:
            found[section] = info
        for one in classes.values():
            for name, field in one.model_fields.items():
                found.setdefault(f"{section}.{name}", field)
    return found


def expected(path: str) -> Any:
    """What a field takes: its annotation, or the union of those of the classes that have it."""
    section, _, name = path.partition(".")
    fields = [one.model_fields[name] for one in section_classes(section).values() if name in one.model_fields]
    return reduce(or_, [field.annotation for field in fields or [every_field()[path]]])


def owners(path: str) -> list[str]:
    """The choices whose classes have a field; empty where all have it, or none."""
    section, _, name = path.partition(".")
    if section not in registry.GROUPS:
        return []
    classes = section_classes(section)
    found = [choice for choice, one in classes.items() if name in one.model_fields]
    return [] if "" in found else found


def class_of(tree: Tree, section: str) -> type[Section] | None:
    """The class of a section in a tree; None where its choice is unknown, or it has no class."""
    if section not in registry.GROUPS:
        return section_classes(section).get("")
    given = completed(tree).get(section, {})
    choice = given.get(registry.FIELDS[section]) if isinstance(given, dict) else None
    try:
        return options_class(section, choice)
    except InputError:
        return None


def value(tree: Tree, path: str) -> Any:
    """What a tree gives, its method brings, or the default; None where the chosen class has no such field."""
    section, _, name = path.partition(".")
    given = completed(tree).get(section)
    if isinstance(given, dict) and name in given:
        return given[name]
    one = class_of(tree, section)
    return one.model_fields[name].default if one is not None and name in one.model_fields else None
