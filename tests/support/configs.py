"""Configs for tests that need only some example of ZIP's pairs, space and gains."""

from zip_ray.config.merging import Tree, merge
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config


def zip_config(tree: Tree, source: str = "test") -> Config:
    """The config described by a tree, with ZIP as the default method."""
    return validate(merge({"optimizer": {"method": "zip"}}, tree), source)
