"""Configs of tests of what ZIP's pairs, space and gains are only an example for."""

from zip_ray.config.merging import Tree, merge
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config


def zip_config(tree: Tree, source: str = "test") -> Config:
    """The config of a tree, whose method is ZIP unless it says otherwise."""
    return validate(merge({"optimizer": {"method": "zip"}}, tree), source)
