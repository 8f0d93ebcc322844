"""The config's fields as options: the parser returns what is given on the command line, and nothing else, as a tree.

All fields of all methods, spaces, tasks and scorers are options. Which of them have an effect is decided when a config
file and the command line are merged.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypedDict, Union, get_args, get_origin

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from zip_ray.config.fields import CHOICES, every_field, expected, section_classes
from zip_ray.config.merging import Tree
from zip_ray.config.plain_yaml import load_yaml
from zip_ray.config.task import TESTED, TaskConfig
from zip_ray.config.tree import Config

ONE_OR_TWO = ("cluster.actors", "execution.split")
"""Fields that are a number or a word, or two numbers."""
_AS_YAML: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="",
    instance_from_str=lambda words: load_yaml(words[0]),
    is_instance=lambda _: True,
    str_from_instance=lambda value: [str(value)],
)
SHORT_FORMS = {"--method": "optimizer.method"}
KINDS = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH", bool: ""}


def _typed(paths: Iterable[str]) -> Any:
    """A nested TypedDict of fields, none of them required."""
    sections: dict[str, dict[str, Any]] = {}
    for path in paths:
        section, _, name = path.rpartition(".")
        annotation: Any = str if path in CHOICES else expected(path)  # any of the classes may be meant, not just one
        if path in ONE_OR_TWO:
            annotation = Annotated[Any, _AS_YAML]
        short = tuple(flag for flag, long in SHORT_FORMS.items() if long == path)
        sections.setdefault(section, {})[name] = Annotated[annotation, arg(aliases=short)]
    root = sections.pop("", {})
    nested = {name: TypedDict(name, of_one, total=False) for name, of_one in sections.items()}  # type: ignore[operator]
    return TypedDict("Options", root | nested, total=False)  # type: ignore[operator]


def form(path: str) -> str:
    """The value that an option of the config takes: a kind of value, or its choices."""
    if path in CHOICES:
        return "|".join(section_classes(path.partition(".")[0]))
    return kind(expected(path))


def kind(annotation: Any) -> str:
    """The same for a type, leaving out None."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(parts[0])
    if origin is Literal:
        return "|".join(map(str, parts))
    if origin is tuple:
        return " ".join(kind(part) for part in parts if part is not Ellipsis)
    if origin is dict:
        return "KEY VALUE ..."
    if origin in (Union, UnionType):
        kinds = [kind(part) for part in parts if part is not NoneType]
        each = (one for kind in kinds for one in ([f"({kind})"] if " " in kind else kind.split("|")))
        return "|".join(dict.fromkeys(each))
    return KINDS[annotation]


def with_pairs_joined(arguments: list[str]) -> list[str]:
    """A line in which each option takes one word: one of a word or two numbers would otherwise take the next word."""
    joined: list[str] = []
    for word in arguments:
        is_second = word.isdecimal() and joined[-1:] != [] and joined[-1].isdecimal()
        if is_second and joined[-2:-1] != [] and joined[-2][2:].replace("-", "_") in ONE_OR_TWO:
            joined[-1] = f"[{joined[-1]}, {word}]"
        else:
            joined.append(word)
    return joined


Paths: TypeAlias = Callable[[], tuple[str, ...]]
"""Paths of config fields, evaluated when a line is read: the user's own classes may add fields."""


def of_sections(*names: str) -> Paths:
    """Paths of all fields of some sections."""
    return lambda: tuple(path for path in every_field() if path.partition(".")[0] in names)


def _of_test() -> tuple[str, ...]:
    """The task that a tuned prompt is tested on, and where; the user's own tasks may have further fields."""
    own = (path for path in OF_TASK() if path.partition(".")[2] not in TaskConfig.model_fields)
    return ("seed", *(f"task.{name}" for name in TESTED), *own, *of_sections("cluster")())


def _options(paths: Paths) -> Any:
    return arg(name="", constructor_factory=lambda: _typed(paths()))


RUN = of_sections(*Config.model_fields)
OF_TASK = of_sections("task")
SUITE = of_sections("budget", "cluster", "model", "tracking")
TEST: Paths = _of_test
TRACKING = of_sections("tracking")
RESUME = of_sections("budget", "execution", "cluster", "tracking")
"""What may change when a run is resumed; `execution` in asynchronous mode."""

ResumeOptions: TypeAlias = Annotated[Tree, _options(RESUME)]
RunOptions: TypeAlias = Annotated[Tree, _options(RUN)]
SuiteOptions: TypeAlias = Annotated[Tree, _options(SUITE)]
TestOptions: TypeAlias = Annotated[Tree, _options(TEST)]
TrackingOptions: TypeAlias = Annotated[Tree, _options(TRACKING)]
