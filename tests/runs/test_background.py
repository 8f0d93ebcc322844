"""The end of a thread that sends what a run has written to another place."""

import threading

import pytest

from tests.support.processes import HANG_SECONDS
from zip_ray.runs import background


def test_a_wait_of_seconds_says_what_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Slow(threading.Thread):
        """Ends at the second call to join."""

        waits = 0

        def join(self, timeout: float | None = None) -> None:
            self.waits += 1
            if self.waits == 2:
                gate.set()
                super().join(timeout)

    monkeypatch.setattr(background, "SILENT_SECONDS", 0.0)
    gate = threading.Event()
    thread = Slow(target=gate.wait)
    thread.start()
    background.join(thread, HANG_SECONDS, "uploading the last results to MLflow")
    assert not thread.is_alive()
    assert capsys.readouterr().err == f"uploading the last results to MLflow (for {HANG_SECONDS:g} s at most)\n"


def test_a_thread_that_has_ended_needs_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    background.join(thread, HANG_SECONDS, "copying")
    assert capsys.readouterr().err == ""
