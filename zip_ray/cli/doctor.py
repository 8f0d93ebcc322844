"""All checks of a run, one after another, each with a remedy for its fault. No fault hides another finding."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from zip_ray.errors import InputError, one_line
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
        except Exception as error:  # from any library: it is not explained, but the other checks still run
            yield Finding(name, False, f"{one_line(error)}: not expected; please report it")


def show_findings(console: Console, findings: Iterator[Finding]) -> int:
    """Print each finding as soon as it is there; returns the exit code."""
    healthy = True
    for finding in findings:
        mark = Text(" ok    ", "green") if finding.healthy else Text(" fault ", "red")
        console.print(Text(f"{finding.name:12}") + mark + Text(finding.text), soft_wrap=True)
        healthy = healthy and finding.healthy
    return 0 if healthy else 1
