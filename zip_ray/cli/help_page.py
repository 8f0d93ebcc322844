"""Help on one or two screens: about a line per option, grouped by section, each with its current value."""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_type_hints

from tyro.conf import Positional

from zip_ray.cli.commands import Command
from zip_ray.cli.flags import SHORT_FORMS, form, kind
from zip_ray.config.fields import class_of
from zip_ray.config.tree import CHOOSERS, Config
from zip_ray.config.writing import effective, flow

WIDTH, COLUMN = 100, 42
POSITIONAL = get_args(Positional[int])[1]
ABOUT = (
    "Tune the prompt of a frozen vision-language model with forward passes only, on one core or on a cluster of GPUs. "
    "Begin with `zip-ray tune quickstart`."
)
ALTERNATIVES = (
    "Not shown: options without effect beside the values above. Name another choice to see its options, such as "
    "`--method cma-es --help`, `--prompt.space full --help` or `--execution.mode async --help`. "
    "docs/reference/options.md describes all options."
)


class _Entry(NamedTuple):
    """An option, a positional or a command, with its description."""

    name: str
    text: str


def top_page(commands: Mapping[str, Command]) -> str:
    """What `zip-ray --help` prints."""
    entries = [_Entry(name, _described(command.run)[0]) for name, command in commands.items()]
    hint = "`zip-ray COMMAND --help` explains a command and its options; `zip-ray --version` prints the version."
    return "\n".join(
        ["usage: zip-ray COMMAND ...", "", *_wrapped(ABOUT), "", *_listed(entries, 14), "", *_wrapped(hint)]
    )


def command_page(name: str, command: Command, config: Config) -> str:
    """What `zip-ray COMMAND --help` prints.

    Args:
        name: the command.
        command: what it does, and which options it has.
        config: the current values. Options without effect beside them are left out.
    """
    summary, _ = _described(command.run)
    parameters = list(_parameters(command.run))
    given = inspect.signature(command.run).parameters
    words = [
        word if given[word.lower().replace("-", "_")].default is inspect.Parameter.empty else f"[{word}]"
        for word, _ in parameters
        if not word.startswith("-")
    ]
    has_options = command.options or len(parameters) > len(words)
    usage = " ".join(["usage: zip-ray", name, *words, *(["[OPTIONS]"] if has_options else [])])
    lines = [usage, "", *_wrapped(summary), *([""] if parameters else []), *_listed(parameters)]
    for title, entries in _sections(command.options, config):
        lines += ["", title, *_listed(entries)]
    return "\n".join([*lines, *(["", *_wrapped(ALTERNATIVES)] if "optimizer.method" in command.options else [])])


def _sections(paths: Sequence[str], config: Config) -> Iterator[tuple[str, list[_Entry]]]:
    """The config's options by section: a title, and those that have an effect; a choice comes first."""
    tree = effective(config)
    plain = [_option(path, Config.model_fields[path], tree[path]) for path in paths if "." not in path]
    if plain:
        yield "run", plain
    for section, fields in tree.items():
        one = class_of(tree, section)
        names = [name for name in fields if f"{section}.{name}" in paths] if one is not None else []
        if one is None or not names:
            continue
        chooser, _ = CHOOSERS.get(section, ("", ""))
        names.sort(key=lambda name: name != chooser)
        title = ": ".join(filter(None, (section, _first_sentence(one.__doc__))))
        yield title, [_option(f"{section}.{name}", one.model_fields[name], fields[name]) for name in names]


def _option(path: str, field: Any, value: object) -> _Entry:
    section, _, name = path.partition(".")
    flag = f"--{section}.[no-]{name}" if field.annotation is bool else f"--{path}"
    flag = ", ".join([*(short for short, long in SHORT_FORMS.items() if long == path), flag.replace("_", "-")])
    shown = "" if value is None else f" [{' '.join(map(str, value)) if isinstance(value, list) else flow(value)}]"
    return _Entry(f"{flag} {form(path)}".strip(), f"{_first_sentence(field.description)}{shown}".strip())


def _parameters(run: Callable[..., int]) -> Iterator[_Entry]:
    """The positionals, and the options of a command that are not fields of the config."""
    _, texts = _described(run)
    for name, annotation in get_type_hints(run, include_extras=True).items():
        if name in texts:
            is_positional = POSITIONAL in getattr(annotation, "__metadata__", ())
            word = name.replace("_", "-")
            yield _Entry(word.upper() if is_positional else f"--{word} {kind(annotation)}", texts[name])


def _described(run: Callable[..., int]) -> tuple[str, dict[str, str]]:
    """What a docstring says of a command, and of each of its parameters."""
    summary, _, parameters = inspect.cleandoc(run.__doc__ or "").partition("\n\nArgs:\n")
    lines = [" ".join(line.split()) for line in re.split(r"\n {4}(?=\w+:)", f"\n{parameters}") if line.strip()]
    return " ".join(summary.split()), {name: text for name, _, text in (line.partition(": ") for line in lines)}


def _first_sentence(text: str | None) -> str:
    """The first sentence: the rest is for the reference. A user's own field may have no description."""
    return re.split(r"(?<=[.!?])\s", " ".join((text or "").split()), maxsplit=1)[0].removesuffix(".")


def _listed(entries: Sequence[_Entry], column: int = COLUMN) -> Iterator[str]:
    """Names with their texts in a column beside them, or below where a name is too long."""
    for name, text in entries:
        lines = textwrap.wrap(text, WIDTH - column, break_on_hyphens=False) or [""]
        if len(name) + 4 > column:
            yield f"  {name}"
        else:
            yield f"  {name:{column - 2}}{lines.pop(0)}".rstrip()
        yield from (" " * column + line for line in lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
