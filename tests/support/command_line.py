"""The command line from outside, and the run folders that it leaves."""

import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.support.paths import ROOT
from zip_ray.runs.event_log import read_record
from zip_ray.tuning.events import PoolEvent, StepEvent


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), *arguments]


def run(cwd: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def steps_done(folder: Path) -> int:
    try:
        return sum(isinstance(event, StepEvent) for event in read_record(folder / "metrics.jsonl"))
    except Exception:
        return 0


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    for _ in range(24_000):
        if steps_done(folder) >= step:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("the run did not get there")


def assert_same_run(one: Path, other: Path) -> None:
    (tensors, events), (other_tensors, other_events) = essence(one), essence(other)
    assert events == other_events
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, other_tensors[name], err_msg=name)


def essence(folder: Path) -> tuple[dict, list]:
    """All of a run that must not depend on where and when: tensors, and events without their times."""
    events = read_record(folder / "metrics.jsonl")[1:]
    dull = {"seconds", "queries_per_second", "account", "wasted"}
    return load_file(folder / "tuned_prompt.safetensors"), [
        {k: v for k, v in asdict(event).items() if k not in dull}
        for event in events
        if not isinstance(event, PoolEvent)
    ]
