"""What the command line prints at the end of a run, and what it says of a line that it cannot read."""

import os
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from zip_ray.compare.document import PAGE as REPORT
from zip_ray.compare.runner import SuiteOutcome
from zip_ray.config import Config
from zip_ray.runs import RunResult

INTERRUPTED = 130
PYTHON = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
"""This interpreter, as a command that works where the user stands."""


def show_run(console: Console, result: RunResult, config: Config) -> int:
    """Print how a run ended; the exit code."""
    state = result.outcome.state
    if not result.outcome.finished:
        console.print(f"stopped: {'; '.join(result.outcome.reasons.values())}", soft_wrap=True)
        text = f"{state.account.charged} queries done; go on with: {PYTHON} run.py resume {result.folder}"
        console.print(text, soft_wrap=True, highlight=False)
        return INTERRUPTED if "interrupted" in result.outcome.reasons else 1
    console.print(accuracy_table(result.accuracies, result.templates))
    console.print(
        f"{state.account.charged} queries in {state.seconds:.1f} s ({'; '.join(result.outcome.reasons.values())})\n"
        f"tuned prompt  {result.folder / 'tuned_prompt.safetensors'}\n"
        f"picture       {result.folder / 'accuracy.png'}",
        soft_wrap=True,
        highlight=False,
    )
    if config.tracking.enabled:
        where = f"{result.run_id} in {config.tracking.uri}" if result.tracked else "incomplete"
        console.print(
            f"MLflow run    {where}\nopen it with  {_next_command(result, config)}", soft_wrap=True, highlight=False
        )
    return 0


def show_suite(console: Console, outcome: SuiteOutcome, folder: Path, again: str) -> int:
    """Print how a suite ended; the exit code."""
    for label, error in outcome.failures.items():
        console.print(f"failed: {label}: {error}", soft_wrap=True, highlight=False, markup=False)
    if outcome.left:
        console.print(f"stopped: {outcome.left} runs left; go on with: {again}", soft_wrap=True, highlight=False)
        return INTERRUPTED
    console.print(f"{outcome.finished} runs done\nreport  {folder / REPORT}", soft_wrap=True, highlight=False)
    return 1 if outcome.failures else 0


def _next_command(result: RunResult, config: Config) -> str:
    """What shows the run in MLflow, or first completes it there."""
    if not result.tracked:
        return f"{PYTHON} run.py replay {result.folder}"
    uri = config.tracking.uri
    return f"{PYTHON} -m mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else f"a browser at {uri}"


def accuracy_table(accuracies: dict[str, float], templates: dict[str, str]) -> Table:
    """Test accuracies as rows."""
    table = Table("prompt", "test accuracy", "text")
    for name, accuracy in accuracies.items():
        kind = name if name == "tuned" else f"zero-shot, {name}"
        table.add_row(kind, f"{accuracy:.1%}", templates.get(name, ""))
    return table


def parse_failure(text: str) -> str:
    """The parser's framed message as one line."""
    lines = [line.strip("│ ╭╮╰╯─") for line in text.splitlines()]
    body = " ".join(line for line in lines[1:] if line)
    body = re.sub(r"For further information visit \S+|For full helptext.*|__tyro-dummy-inner__\.settings\.", "", body)
    return f"{body.strip()} (see run.py --help)"
