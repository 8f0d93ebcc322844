"""benchmarks/gpu.py: an error or a hang in a part stops no other."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.on_gpu.running import Case, Part, Row, Setting, markdown, run_part


def one(value: float) -> Iterator[Row]:
    yield {"value": value}


def broken() -> Iterator[Row]:
    yield {"value": 1.0}
    raise RuntimeError("CUDA error:\nan illegal access")


def endless() -> Iterator[Row]:
    yield {"value": 2.0}
    time.sleep(600)


def cases(_: Setting) -> Iterator[Case]:
    yield "broken", broken
    yield "whole", lambda: one(3.0)


def hanging(_: Setting) -> Iterator[Case]:
    yield "endless", endless


def test_an_error_in_a_case_stops_no_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = run_part("a", Part("cases", 60, cases), Setting("cpu", True), tmp_path)
    assert outcome.rows == [{"case": "broken", "value": 1.0}, {"case": "whole", "value": 3.0}]
    assert outcome.errors == ["broken: RuntimeError: CUDA error: an illegal access"]
    assert "case whole  value 3" in capfd.readouterr().out, "printed as it goes"
    text = markdown("cases", outcome)
    assert "| whole | 3 |" in text
    assert "**not measured:** broken" in text


def test_a_part_is_ended_at_its_limit_and_keeps_its_rows(tmp_path: Path) -> None:
    outcome = run_part("a", Part("hangs", 2.0, hanging), Setting("cpu", True), tmp_path)
    assert outcome.rows == [{"case": "endless", "value": 2.0}]
    assert outcome.errors == ["ended at its limit of 2 s"]


def test_the_parts_fit_in_four_minutes() -> None:
    assert sum(part.seconds for part in gpu.parts().values()) <= 240
