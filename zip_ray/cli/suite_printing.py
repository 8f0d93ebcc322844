"""What the command line prints at the end of a suite."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from zip_ray.cli.printing import INTERRUPTED
from zip_ray.comparison.execute import SuiteOutcome
from zip_ray.comparison.report.document import PAGE as REPORT
from zip_ray.comparison.report.tables import overview_table
from zip_ray.comparison.results import read_results


def show_suite(console: Console, outcome: SuiteOutcome, folder: Path) -> int:
    """Print how a suite ended; the exit code."""
    for label, error in outcome.failures.items():
        console.print(f"failed: {label}: {error}", soft_wrap=True)
    if outcome.left:
        console.print(f"stopped: {outcome.left} runs left; run the same command to continue", soft_wrap=True)
        return INTERRUPTED
    new = outcome.finished or outcome.failures
    done = f"{outcome.finished} runs done" if new else "all runs were finished before"
    if (folder / REPORT).is_file():
        console.print(_overview(folder))
    console.print(f"{done}\nreport  {folder / REPORT}", soft_wrap=True)
    return 1 if outcome.failures else 0


def _overview(folder: Path) -> Table:
    """The first table of a suite's report."""
    found = overview_table(read_results(folder))
    table = Table(*found.header)
    for line in found.rows:
        table.add_row(*(cell.text for cell in line))
    return table
