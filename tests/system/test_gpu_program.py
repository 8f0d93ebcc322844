"""benchmarks/gpu.py: an error or a hang in one part does not stop the others."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.on_gpu.running import Case, Outcome, Part, Row, Setting, markdown, run_part


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


def test_figures_are_said_beside_the_wanted_ones() -> None:
    found = {
        "b": Outcome([{"case": "ViT-B-16, 47 classes", "times faster": factor} for factor in (31.2, 12.0)], [], 1.0)
    }
    assert gpu.judge(found) == [
        "times faster with 47 classes: 31 (wanted 30)",
        "times faster with 100 classes: not measured (wanted 30)",
        "share of float32 peak with 1,000 classes: not measured (wanted 50%)",
        "share of a run of gauss-newton in which the GPU is busy: not measured (wanted 90%)",
    ]
