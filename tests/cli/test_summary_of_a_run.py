"""The summary that the command line prints at the end of a run."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.support.events import stall_event, start_event, step_event
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED
from zip_ray.cli.printing import show_run
from zip_ray.config.reading import validate
from zip_ray.optimizers import OptimizerState
from zip_ray.runs.event_log import FILE_NAME, as_json, cut_record, read_record
from zip_ray.runs.run_result import RunResult
from zip_ray.tuning.loop import Outcome
from zip_ray.tuning.state import RunState


@pytest.mark.parametrize("stalled", [True, False])
def test_a_run_whose_loss_did_not_move_says_so_at_its_end(tmp_path: Path, stalled: bool) -> None:
    events = [start_event(), step_event(50), *([stall_event(50)] if stalled else []), step_event(51)]
    (tmp_path / FILE_NAME).write_bytes(b"".join(map(as_json, events)))
    outcome = Outcome(RunState(OptimizerState(np.zeros(6))), {"queries": "510 of 510 queries used"})
    accuracies = {PLAIN_TEMPLATE: 0.5, TUNED: 0.5}
    result = RunResult(tmp_path, start_event(), outcome, accuracies, None, False, "")
    out = io.StringIO()
    assert show_run(Console(file=out, width=200), result, validate({"tracking": {"enabled": False}}, "test")) == 0
    assert ("warning: the loss has not moved in 50 steps" in out.getvalue()) is stalled


@pytest.mark.parametrize(("checkpoint", "kept"), [(49, False), (50, True)])
def test_a_resume_keeps_the_warning_of_the_steps_that_it_keeps(tmp_path: Path, checkpoint: int, kept: bool) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"".join(map(as_json, [start_event(), step_event(49), step_event(50), stall_event(50)])))
    cut_record(path, checkpoint, 0)
    assert (stall_event(50) in read_record(path)) is kept
