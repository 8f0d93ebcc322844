"""Ctrl-C and SIGTERM: the first asks the run to stop, and says so; the second ends it at once, without a traceback."""

import signal

import pytest

from tests.support.fakes import FakeScorer
from zip_ray.cli.main import main
from zip_ray.cli.printing import INTERRUPTED
from zip_ray.cli.signals import stop_on_signal
from zip_ray.pool.in_process import InProcessPool


@pytest.fixture(autouse=True)
def pythons_own(handlers: None) -> None:  # noqa: ARG001 - asked for so that it is there before
    """Python's own handler for Ctrl-C, whatever an earlier test has installed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_first_ctrl_c_asks_a_run_to_stop_and_the_second_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    with stop_on_signal(lambda: InProcessPool(FakeScorer)) as (interrupted, opener):
        opener()
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        assert capfd.readouterr().err == "stopping; interrupt again to quit immediately\n"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_a_run_starts_up_the_first_ends_it(number: signal.Signals) -> None:
    with stop_on_signal(lambda: InProcessPool(FakeScorer)) as (_, opener):
        opener()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_an_interrupted_command_line_has_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zip_ray.cli.status.status", lambda _: signal.raise_signal(signal.SIGINT))
    assert main(["status", "run"]) == INTERRUPTED
