"""The command line, in this process or in one of its own, and the run folders that it leaves."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.support.paths import ROOT
from tests.support.processes import signals_kept, wait_for
from zip_ray.cli.main import main
from zip_ray.runs.event_log import read_record
from zip_ray.tuning.events import PoolEvent, StepEvent


@dataclass(frozen=True)
class Done:
    """What a command printed."""

    stdout: str
    stderr: str


def command(*arguments: str) -> list[str]:
    """The command line for a separate process that is to be killed, stopped or watched."""
    return [sys.executable, str(ROOT / "run.py"), *arguments]


def run(cwd: Path, *arguments: str, code: int = 0) -> Done:
    """Run a command in this process, in a folder."""
    out, err = io.StringIO(), io.StringIO()
    with signals_kept(), working_in(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            got: object = main([*arguments])
        except SystemExit as end:
            got = end.code
    done = Done(out.getvalue(), err.getvalue())
    assert got == code, done.stdout + done.stderr
    return done


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Have a folder as the working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def steps_done(folder: Path) -> int:
    try:
        return sum(isinstance(event, StepEvent) for event in read_record(folder / "metrics.jsonl"))
    except Exception:
        return 0


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[Any]) -> None:
    """Wait until a process's run has made that many steps."""

    def there() -> bool:
        return steps_done(folder) >= step or process.poll() is not None

    wait_for(there, every=0.01)
    assert steps_done(folder) >= step, process.communicate()


def assert_same_run(one: Path, other: Path) -> None:
    (tensors, events), (other_tensors, other_events) = essence(one), essence(other)
    assert events == other_events
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, other_tensors[name], err_msg=name)


def essence(folder: Path) -> tuple[dict, list]:
    """Everything in a run that must not depend on where and when it runs: tensors, and events without times."""
    events = read_record(folder / "metrics.jsonl")[1:]
    dull = {"seconds", "queries_per_second", "account", "wasted"}
    return load_file(folder / "tuned_prompt.safetensors"), [
        {k: v for k, v in asdict(event).items() if k not in dull}
        for event in events
        if not isinstance(event, PoolEvent)
    ]
