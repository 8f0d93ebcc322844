"""The output of the command line at the end of a run, and its message about a line that cannot be parsed."""

import re
import shlex
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED
from zip_ray.cli.flags import RUN, form
from zip_ray.config.secrets import without_secrets
from zip_ray.config.tree import Config
from zip_ray.protocol.intervals import interval
from zip_ray.runs import next_command
from zip_ray.runs.folder import how_to_resume
from zip_ray.runs.progress import chosen_text, stall_text
from zip_ray.runs.run_result import RunResult
from zip_ray.runs.zero_shot import shortfall

if TYPE_CHECKING:
    from zip_ray.artifact.scored_test import ScoredTest

INTERRUPTED = 130
TOP = 5
"""Classes of a top-k accuracy."""
SHOWN_CLASSES = 10
"""Rows of a table of classes."""


def show_run(console: Console, result: RunResult, config: Config) -> int:
    """Print how a run ended; the exit code."""
    state = result.outcome.state
    if not result.outcome.finished:
        console.print(f"stopped: {'; '.join(result.outcome.reasons.values())}", soft_wrap=True)
        text = f"{state.account.charged} queries done; continue with: {how_to_resume(result.folder, config)}"
        console.print(text, soft_wrap=True)
        return INTERRUPTED if "interrupted" in result.outcome.reasons else 1
    images, classes = result.start.images["test"], len(result.start.classnames)
    console.print(accuracy_table(result.accuracies, _texts(result), images, classes))
    if (found := result.evidence) is not None:
        console.print(
            f"validation    loss {found.start_loss:.2f} at the start, {found.loss:.2f} now: lower by {found.gain:.2f} "
            f"± {found.half_width:.2f} (95%, {found.images} images)",
            soft_wrap=True,
        )
    if text := shortfall(result.accuracies, config):
        console.print(text, soft_wrap=True)
    if result.chosen is not None:
        console.print(chosen_text(result.chosen), soft_wrap=True)
    if result.stall is not None:
        console.print(f"warning: {stall_text(result.stall)}", soft_wrap=True)
    console.print(
        f"{state.account.charged} queries in {state.seconds:.1f} s ({'; '.join(result.outcome.reasons.values())})\n"
        f"tuned prompt  {result.folder / 'tuned_prompt.safetensors'}\n"
        f"picture       {result.folder / 'accuracy.png'}",
        soft_wrap=True,
    )
    if config.tracking.enabled:
        where = f"{result.run_id} in {without_secrets(config.tracking.address)}" if result.tracked else "incomplete"
        label = "open it with  " if result.tracked else "send the rest "
        console.print(f"MLflow run    {where}\n{label}{_next_command(result, config)}", soft_wrap=True)
    return 0


def _texts(result: RunResult) -> dict[str, str]:
    """The templates of the zero-shot rows, and the one that the tuned prompt started from."""
    start = result.start
    begun = {} if start.template is None else {TUNED: f"from: {start.template}"}
    return start.zero_shot.templates | begun


def _next_command(result: RunResult, config: Config) -> str:
    """The command that opens the run in MLflow, or first completes it there."""
    if not result.tracked:
        return f"{next_command.zip_ray()} replay {shlex.quote(str(result.folder))}"
    uri: str = without_secrets(config.tracking.address)
    if not uri.startswith("sqlite:"):
        return f"a browser at {uri}"
    return f"{next_command.beside_python('mlflow')} ui --backend-store-uri {shlex.quote(uri)}"


def accuracy_table(accuracies: dict[str, float], templates: dict[str, str], images: int, classes: int) -> Table:
    """Test accuracies as rows, with their 95% intervals, and the templates if there are any.

    Hand-written templates of one text share a row; a tuned prompt below the plain one is marked.

    Args:
        accuracies: by name.
        templates: texts of some of them, by name.
        images: how many test images there are.
        classes: how many classes there are; 0 where that is unknown.
    """
    chance = f", {classes} classes: chance {1 / classes:.1%}" if classes else ""
    columns = ["prompt", "test accuracy", "95% interval", *(["text"] if templates else [])]
    table = Table(*columns, title=f"{images:,} test images{chance}", title_justify="left", title_style="")
    for names in _alike(accuracies, templates):
        accuracy, tuned = accuracies[names[0]], names[0] in (TUNED, READ_OUT)
        mark = " (below plain)" if tuned and accuracy < accuracies.get(PLAIN_TEMPLATE, 0.0) else ""
        low, high = interval(accuracy, images)
        text = [templates.get(names[0], "")] if templates else []
        kind = names[0] if tuned else f"zero-shot, {_joined(names)}"
        table.add_row(kind, f"{accuracy:.1%}{mark}", f"{low:.1%} to {high:.1%}", *text)
    return table


def show_test(console: Console, test: "ScoredTest") -> None:
    """Print how a tuned prompt did on a test: accuracies, top-5, and the classes with the lowest accuracy."""
    console.print(accuracy_table(test.accuracies, {}, len(test.labels), len(test.classnames)))
    if not test.classnames:
        return
    if len(test.classnames) > TOP:
        console.print(f"top-{TOP} accuracy  {test.top(TOP):.1%}")
    matrix = test.confusion
    accuracies = matrix.diagonal() / np.maximum(matrix.sum(axis=1), 1)
    table = Table("class", "images", "accuracy", "mostly mistaken for")
    for label in np.argsort(accuracies, kind="stable")[:SHOWN_CLASSES]:
        others = np.delete(matrix[label], label)
        other = np.delete(np.arange(len(matrix)), label)[others.argmax()] if others.any() else None
        mistaken = "" if other is None else f"{test.classnames[other]} ({others.max()})"
        table.add_row(test.classnames[label], f"{matrix[label].sum()}", f"{accuracies[label]:.1%}", mistaken)
    if len(accuracies) > SHOWN_CLASSES:
        console.print(f"the {SHOWN_CLASSES} of {len(accuracies)} classes with the lowest accuracy:")
    console.print(table)


def _alike(accuracies: dict[str, float], templates: dict[str, str]) -> list[list[str]]:
    """Names of each row, in order: those of one hand-written text belong together."""
    rows: dict[str, list[str]] = {}
    for name in accuracies:
        rows.setdefault(name if name in (TUNED, READ_OUT) else templates.get(name, name), []).append(name)
    return [*rows.values()]


def _joined(names: list[str]) -> str:
    """`generic, plain and best template`."""
    *first, last = (name.removesuffix(" template") for name in names)
    return f"{', '.join(first)} and {last} template" if first else names[0]


def parse_failure(text: str, command: str) -> str:
    """The parser's framed message as one line: the fault, without Python types and help texts.

    Args:
        text: what the parser wrote.
        command: the one that was asked for.
    """
    lines = [line.strip("│ ╭╮╰╯─") for line in text.splitlines()[1:]]
    # A rule between two parts is of "-" where the terminal's encoding has no "─".
    what, *_ = " ".join(line if line.strip("-") else "\n" for line in lines).strip().split("\n")
    what = re.sub(r"^Missing from .*?: ([A-Z-]+) (.*?) \(required\).*", r"\1: missing: \2", what.strip())
    option = re.search(r"--[a-z][\w.-]*", what.replace("--method/", ""))
    path = option.group()[2:].replace("-", "_") if option else ""
    if option and path in RUN():
        what = f"{option.group()}: give {form(path)}"
    what = re.sub(r"^Missing value for argument '(--.*?)'.*", r"\1: missing: give a value", what)
    what = re.sub(r"^Missing value for argument '(\w+)'.*", lambda found: f"{found[1].upper()}: missing", what)
    if choice := re.match(r"invalid choice (.*?) for argument '(.*?)'\. Expected one of \((.*?)\)", what):
        given, name, choices = choice.groups()
        what = f"{name}: {given}: choose {choices.replace(chr(39), '')}"
    return f"{what} (see zip-ray {command} --help)"
