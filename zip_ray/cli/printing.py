"""What the command line prints at the end of a run, and what it says of a line that it cannot read."""

import os
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED
from zip_ray.compare.execute import SuiteOutcome
from zip_ray.compare.report.document import PAGE as REPORT
from zip_ray.config.tree import Config
from zip_ray.runs.folder import lasting
from zip_ray.runs.lifecycle import RunResult
from zip_ray.runs.zero_shot import shortfall

INTERRUPTED = 130
PYTHON = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
"""This interpreter, as a command that works where the user stands."""


def show_run(console: Console, result: RunResult, config: Config) -> int:
    """Print how a run ended; the exit code."""
    state = result.outcome.state
    if not result.outcome.finished:
        console.print(f"stopped: {'; '.join(result.outcome.reasons.values())}", soft_wrap=True)
        text = (
            f"{state.account.charged} queries done; go on with: {PYTHON} run.py resume {lasting(result.folder, config)}"
        )
        console.print(text, soft_wrap=True)
        return INTERRUPTED if "interrupted" in result.outcome.reasons else 1
    console.print(accuracy_table(result.accuracies, result.templates))
    if text := shortfall(result.accuracies, config):
        console.print(text, soft_wrap=True)
    console.print(
        f"{state.account.charged} queries in {state.seconds:.1f} s ({'; '.join(result.outcome.reasons.values())})\n"
        f"tuned prompt  {result.folder / 'tuned_prompt.safetensors'}\n"
        f"picture       {result.folder / 'accuracy.png'}",
        soft_wrap=True,
    )
    if config.tracking.enabled:
        where = f"{result.run_id} in {config.tracking.uri}" if result.tracked else "incomplete"
        label = "open it with  " if result.tracked else "send the rest "
        console.print(f"MLflow run    {where}\n{label}{_next_command(result, config)}", soft_wrap=True)
    return 0


def show_suite(console: Console, outcome: SuiteOutcome, folder: Path) -> int:
    """Print how a suite ended; the exit code."""
    for label, error in outcome.failures.items():
        console.print(f"failed: {label}: {error}", soft_wrap=True)
    if outcome.left:
        console.print(f"stopped: {outcome.left} runs left; the same command goes on", soft_wrap=True)
        return INTERRUPTED
    new = outcome.finished or outcome.failures
    done = f"{outcome.finished} runs done" if new else "all runs were done before"
    console.print(f"{done}\nreport  {folder / REPORT}", soft_wrap=True)
    return 1 if outcome.failures else 0


def _next_command(result: RunResult, config: Config) -> str:
    """What shows the run in MLflow, or first completes it there."""
    if not result.tracked:
        return f"{PYTHON} run.py replay {result.folder}"
    uri = config.tracking.uri
    return f"{PYTHON} -m mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else f"a browser at {uri}"


def accuracy_table(accuracies: dict[str, float], templates: dict[str, str]) -> Table:
    """Test accuracies as rows, with the templates where there are any; a tuned prompt below the plain one is marked."""
    table = Table("prompt", "test accuracy", *(["text"] if templates else []))
    for name, accuracy in accuracies.items():
        kind = name if name == TUNED else f"zero-shot, {name}"
        mark = " (below the plain template)" if name == TUNED and accuracy < accuracies.get(PLAIN_TEMPLATE, 0.0) else ""
        table.add_row(kind, f"{accuracy:.1%}{mark}", *([templates.get(name, "")] if templates else []))
    return table


def parse_failure(text: str, command: str) -> str:
    """The parser's framed message as one line: what is wrong, with a name that is near; no types, no help texts.

    Args:
        text: what the parser wrote.
        command: the subcommand that was asked for.
    """
    lines = [line.strip("│ ╭╮╰╯─").replace("__tyro-dummy-inner__.", "") for line in text.splitlines()[1:]]
    # A rule between two parts is of "-" where the terminal's encoding has no "─".
    what, _, rest = " ".join(line if line.strip("-") else "\n" for line in lines).strip().partition("\n")
    what = what.strip()
    if fault := _FAULT.match(what):
        section, field, message, value = fault.group("section", "field", "message", "value")
        names = ".".join(name for name in (section.removeprefix("settings").strip("."), field) if name)
        said = message.removeprefix("Value error, ")
        what = ": ".join(part for part in (names, value if said == message else "", said) if part)
    near = re.search(r"Perhaps you meant: (\S+)|Available subcommands: (.+?) \n", rest)
    hint = f"; {' '.join(near.group().split())}" if near else ""
    return f"{what}{hint} (see run.py {'' if 'subcommands' in hint else f'{command} '}--help)"


_FAULT = re.compile(
    r"Error parsing (?P<section>\S*): \d+ validation errors? for \w+ "
    r"(?:(?P<field>[a-z_.\d]+) )?(?P<message>.+?) \[type=\w+, input_value=(?P<value>.*?), input_type="
)
"""A fault of a config section, as pydantic tells it within the parser's words."""
