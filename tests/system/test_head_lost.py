"""The cluster's head is lost while a driver runs elsewhere: the driver saves its state, reports it, and can resume."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import assert_same_run, command, run, wait_for_step
from tests.support.paths import ROOT
from tests.support.processes import HANG_SECONDS
from tests.support.ray_head import ray_head

pytestmark = pytest.mark.slow

SETTINGS = (
    *("--budget.queries=1000", "--validation.every-queries=500", "--output.checkpoint-every-steps=1000"),
    *("--tracking.no-enabled", "--execution.threads=1"),
)
QUICKSTART = str(ROOT / "configs" / "methods" / "zip-tuned.yaml")


def test_a_run_without_its_head_saves_its_state_and_goes_on_elsewhere(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "1"}
    with ray_head() as started:
        where = ("--output.dir=cut", f"--cluster.address={started.client}", "--cluster.actors=1")
        process = subprocess.Popen(
            command("tune", QUICKSTART, *SETTINGS, *where),
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for_step(tmp_path / "cut", 5, process)
        started.kill()
        said, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 1, said
    assert "the Ray cluster is lost" in said
    assert "resume cut" in said
    in_process = "--cluster.pool=in-process"
    run(tmp_path, "tune", QUICKSTART, *SETTINGS, "--output.dir=whole", in_process)
    run(tmp_path, "resume", "cut", in_process)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
