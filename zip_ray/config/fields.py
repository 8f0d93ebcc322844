"""The fields of the config by their dotted paths, over the classes of all methods and spaces."""

from typing import Any, get_args

from pydantic.fields import FieldInfo

from zip_ray.config.merging import Tree
from zip_ray.config.section import Section
from zip_ray.config.tree import CHOOSERS, Config, completed

CHOICES = {f"{section}.{field}" for section, (field, _) in CHOOSERS.items()}
"""Paths of the fields that choose the class of their section."""


def section_classes(section: str) -> dict[str, type[Section]]:
    """The classes that a section may have, by the choice that it takes ("" where there is none to make).

    A plain field of the root, such as `seed`, has no class.
    """
    annotation = Config.model_fields[section].annotation
    if section in CHOOSERS:
        chooser, _ = CHOOSERS[section]
        return {str(one.model_fields[chooser].default): one for one in get_args(annotation)}
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


def owners(path: str) -> list[str]:
    """The methods or spaces that have a field; empty where it is in no section of a union, or in no class."""
    section, _, name = path.partition(".")
    if section not in CHOOSERS:
        return []
    return [choice for choice, one in section_classes(section).items() if name in one.model_fields]


def class_of(tree: Tree, section: str) -> type[Section] | None:
    """The class of a section in a tree; None where its choice is unknown, or it has no class."""
    chooser, _ = CHOOSERS.get(section, ("", ""))
    given = completed(tree).get(section)
    choice = given.get(chooser) if isinstance(given, dict) and chooser else ""
    return section_classes(section).get(choice) if isinstance(choice, str) else None


def value(tree: Tree, path: str) -> Any:
    """What a tree gives, its method brings, or the default; None where the chosen class has no such field."""
    section, _, name = path.partition(".")
    given = completed(tree).get(section)
    if isinstance(given, dict) and name in given:
        return given[name]
    one = class_of(tree, section)
    return one.model_fields[name].default if one is not None and name in one.model_fields else None
