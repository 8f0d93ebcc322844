"""The config's fields as options: the parser returns what is given on the command line, and nothing else, as a tree.

It knows the fields of all methods and spaces. Which of them have an effect is found when a config file and the command
line are put together.
"""

from collections.abc import Iterable
from typing import Annotated, Any, TypeAlias, TypedDict

from tyro.conf import arg

from zip_ray.config.fields import every_field
from zip_ray.config.merging import Tree
from zip_ray.config.task import TESTED
from zip_ray.config.tree import CHOOSERS

SHORT_FORMS = {"optimizer.method": "--method"}


def _typed(paths: Iterable[str]) -> Any:
    """A nested TypedDict of fields, none of them required."""
    fields = every_field()
    sections: dict[str, dict[str, Any]] = {}
    for path in paths:
        section, _, name = path.rpartition(".")
        is_choice = (section, name) in ((section, field) for section, (field, _) in CHOOSERS.items())
        kind: Any = str if is_choice else fields[path].annotation  # of all choices, not of one class alone
        short = SHORT_FORMS.get(path)
        sections.setdefault(section, {})[name] = Annotated[kind, arg(aliases=(short,))] if short else kind
    root = sections.pop("", {})
    nested = {name: TypedDict(name, of_one, total=False) for name, of_one in sections.items()}  # type: ignore[operator]
    return TypedDict("Options", root | nested, total=False)  # type: ignore[operator]


def of_sections(*names: str) -> tuple[str, ...]:
    """Paths of all fields of some sections."""
    return tuple(path for path in every_field() if path.partition(".")[0] in names)


RUN = tuple(every_field())
SUITE = of_sections("budget", "cluster", "tracking")
TEST = ("seed", *(f"task.{name}" for name in TESTED))
TRACKING = of_sections("tracking")
RESUME = of_sections("budget", "execution", "cluster", "tracking")
"""What may change when a run is resumed; `execution` in asynchronous mode."""

ResumeOptions: TypeAlias = Annotated[Tree, arg(name="", constructor=_typed(RESUME))]
RunOptions: TypeAlias = Annotated[Tree, arg(name="", constructor=_typed(RUN))]
SuiteOptions: TypeAlias = Annotated[Tree, arg(name="", constructor=_typed(SUITE))]
TestOptions: TypeAlias = Annotated[Tree, arg(name="", constructor=_typed(TEST))]
TrackingOptions: TypeAlias = Annotated[Tree, arg(name="", constructor=_typed(TRACKING))]
