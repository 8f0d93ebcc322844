"""YAML without surprises: duplicate keys, and values that YAML does not read as people do, are errors."""

import re
from collections.abc import Sequence
from typing import Any

import yaml

PLAIN = re.compile(r"[-+]?(0|[1-9][0-9_]*|0[xb][0-9a-fA-F_]+)")
"""Integers that are what they look like."""


class YamlFault(ValueError):
    """What is wrong in a YAML text, and in which line, counted from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def load_yaml(text: str) -> Any:
    """The plain values of a YAML text.

    Raises:
        YamlFault: not YAML, a key twice in a mapping, or a scalar that YAML does not read as people do.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlFault(1 if mark is None else mark.line + 1, f"not YAML: {problem}") from error
    except yaml.YAMLError as error:
        raise YamlFault(1, f"not YAML: {' '.join(str(error).split())}") from error


def line_of(text: str, keys: Sequence[object]) -> int | None:
    """The line of a key in a YAML text, from 1; of the last of its sections where the key itself is not given.

    Args:
        text: as `load_yaml` reads it.
        keys: the sections that lead to it, and the key; numbers in lists.
    """
    node, line = yaml.compose(text, yaml.SafeLoader), None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next(((one, value) for one, value in node.value if one.value == str(key)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            found = (node.value[key], node.value[key])
        else:
            found = None
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses misleading values."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise YamlFault(line, f"{key.value}: given twice, in line {seen[key.value]} too: keep one")
                seen[key.value] = line
            if isinstance(value, yaml.ScalarNode):
                self._require_plain(value, f"{key.value}: ")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if isinstance(node, yaml.ScalarNode):
            self._require_plain(node, "")
        return super().construct_scalar(node)

    def _require_plain(self, node: yaml.ScalarNode, key: str) -> None:
        """Octal, sexagesimal, and words for true and false."""
        kind, text = node.tag.rpartition(":")[2], node.value
        odd = {
            "int": PLAIN.fullmatch(text) is None,
            "float": ":" in text,
            "bool": text.lower() not in ("true", "false"),
        }
        if not odd.get(kind, False):
            return
        value = str(yaml.safe_load(text)).lower()
        problem = f"{key}{text}: YAML reads it as {value}: write that, or put it in quotes"
        raise YamlFault(node.start_mark.line + 1, problem)
