"""The doctor prints each finding as soon as it has it, whatever the other checks do."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from zip_ray.api import checks
from zip_ray.cli.doctor import Finding, examine, show_findings
from zip_ray.config.reading import validate
from zip_ray.errors import InputError


def test_any_exception_is_a_finding() -> None:
    def fail(error: Exception) -> str:
        raise error

    found = list(
        examine(
            {
                "one": lambda: "good",
                "two": lambda: fail(InputError("x: bad: do y")),
                "three": lambda: fail(OSError("line\nline")),
                "four": lambda: "good",
            }
        )
    )
    assert [finding.healthy for finding in found] == [True, False, False, True]
    assert found[1].text == "x: bad: do y"
    assert found[2].text == "OSError: line line: not expected; please report it"


def test_findings_are_printed_as_they_come() -> None:
    out = io.StringIO()

    def findings() -> Iterator[Finding]:
        yield Finding("one", True, "good")
        assert out.getvalue().split() == ["one", "ok", "good"]
        yield Finding("two", False, "bad: do [y]")

    assert show_findings(Console(file=out, markup=False, highlight=False), findings()) == 1
    assert out.getvalue().splitlines()[1].split(maxsplit=2) == ["two", "fault", "bad: do [y]"]


def test_ray_is_left_alone_where_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray is started"))
    assert checks(validate({"cluster": {"pool": "in-process"}}, ""))["cluster"]().startswith("not used")
