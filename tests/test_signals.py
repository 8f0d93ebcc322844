"""Ctrl-C and SIGTERM: the first asks the run to stop, and says so; the second ends it at once, without a traceback."""

import signal
from collections.abc import Iterator

import pytest

import run
from tests.fakes import FakeScorer
from zip_ray.pool import InProcessPool, Pool
from zip_ray.terminal import INTERRUPTED


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Python's own for Ctrl-C, whatever a test before has left; afterwards, what was there."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted_start() -> Pool:
    """A pool that is told to stop while it opens."""
    signal.raise_signal(signal.SIGINT)
    return InProcessPool(FakeScorer)


def test_the_second_ctrl_c_ends_it_though_the_first_came_at_start_up(capfd: pytest.CaptureFixture[str]) -> None:
    with run.stop_on_signal(interrupted_start) as (stop, opener):
        opener()
        assert stop.is_set()
        assert capfd.readouterr().err == "stopping; once more ends it at once\n"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_command_line_has_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "base_config", lambda _: signal.raise_signal(signal.SIGINT))
    assert run.main(["status", "run"]) == INTERRUPTED
