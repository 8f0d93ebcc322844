"""Long work on images reports its progress."""

from collections.abc import Iterator

import pytest

from zip_ray.tasks.counted import counted


def at(*times: float) -> Iterator[float]:
    yield from times


def test_says_how_far_it_is_after_two_seconds_and_then_every_five(capsys: pytest.CaptureFixture[str]) -> None:
    clock = at(0, 1.9, 2.0, 6.9, 7.0, 12.0)
    assert list(counted("abcde", 1234, "encoding", clock=lambda: next(clock))) == list("abcde")
    assert capsys.readouterr().err.splitlines() == [f"encoding images: {number} of 1,234" for number in (1, 3, 4)]


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted("abc", 3, "opening", clock=lambda: 0.0)) == list("abc")
    assert capsys.readouterr().err == ""
