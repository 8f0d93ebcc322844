"""A config as readable YAML: values that differ from the defaults come first, marked."""

from typing import Any, NamedTuple

import yaml

from zip_ray.config.inert import idle_because
from zip_ray.config.merging import Tree
from zip_ray.config.secrets import without_secrets
from zip_ray.config.tree import CHOOSERS, Config, completed, is_own_choice


class _Line(NamedTuple):
    """A field with its default."""

    name: str
    value: Any
    default: Any

    @property
    def differs(self) -> bool:
        return bool(self.value != self.default)

    def __str__(self) -> str:
        mark = f" # default {flow(self.default)}" if self.differs else ""
        return f"{self.name}: {flow(self.value)}{mark}"


def flow(value: object) -> str:
    """A value as YAML, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def effective(config: Config) -> Tree:
    """A config as plain values, less secrets and the fields that have no effect beside the others."""
    whole = without_secrets(config.model_dump(mode="json"))
    return {
        section: {name: value for name, value in fields.items() if idle_because(whole, f"{section}.{name}") is None}
        if isinstance(fields, dict)
        else fields
        for section, fields in whole.items()
    }


def to_yaml(config: Config) -> str:
    """The effective part of a config, which is a valid config itself.

    Sections with something that differs from the defaults come first, and in each section what differs, with the
    default behind it. Defaults are those of the chosen method and space; that of the space itself is the method's.
    """
    blocks: list[tuple[bool, str]] = []
    tree = effective(config)
    defaults = _defaults_beside(tree)
    own_choices = completed({"optimizer": {"method": config.optimizer.method}})
    for section, fields in tree.items():
        if not isinstance(fields, dict):
            line = _Line(section, fields, defaults[section])
            blocks.append((line.differs, str(line)))
            continue
        chooser, choice = CHOOSERS.get(section, ("", ""))
        if section == "prompt":
            choice = own_choices["prompt"][chooser]
        lines = _lines(fields, defaults[section], chooser, choice)
        text = "\n".join([f"{section}:", *(f"  {line}" for line in lines)])
        blocks.append((any(line.differs for line in lines), text))
    return "\n".join(text for _, text in sorted(blocks, key=lambda block: not block[0])) + "\n"


def _defaults_beside(tree: Tree) -> Tree:
    """The defaults beside a method and a space, as plain values; the choices themselves have their own defaults."""
    chosen = {section: {chooser: tree[section][chooser]} for section, (chooser, _) in CHOOSERS.items()}
    chosen["task"] = {"name": tree["task"]["name"]} if is_own_choice("task", tree["task"]["name"]) else {}
    return Config.model_validate(chosen).model_dump(mode="json")


def _lines(fields: Tree, defaults: Tree, chooser: str, choice: str) -> list[_Line]:
    """The fields of a section: what differs, then the rest; a choice comes first of either."""
    own = defaults | ({chooser: choice} if chooser else {})
    lines = [_Line(name, value, own[name]) for name, value in fields.items()]
    lines = [line for line in lines if line.differs or line.value is not None]
    return sorted(lines, key=lambda line: (not line.differs, line.name != chooser))
