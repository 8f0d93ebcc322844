"""All checks of a run, one after another, each with a remedy for its fault."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    healthy: bool
    text: str
    """What was found; for a fault, with its remedy."""


def examine(checks: Mapping[str, Callable[[], str]]) -> Iterator[Finding]:
    """Run all checks; a fault of one does not stop the others."""
    for name, check in checks.items():
        try:
            yield Finding(name, True, check())
        except (InputError, PoolError) as error:
            yield Finding(name, False, str(error))


def show_findings(console: Console, findings: Iterator[Finding]) -> int:
    """Print a table of them; the exit code."""
    table = Table("check", "", "finding", box=None)
    healthy = True
    for finding in findings:
        mark = Text("ok", "green") if finding.healthy else Text("fault", "red")
        table.add_row(finding.name, mark, finding.text)
        healthy = healthy and finding.healthy
    console.print(table)
    return 0 if healthy else 1
