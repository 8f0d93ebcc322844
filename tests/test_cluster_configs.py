"""configs/cluster/: launcher file by Ray's schema, manifest by what it must hold, Slurm script by a dry run."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml

from tests.test_jobs import ROOT, SETTINGS
from zip_ray.record import read_record

CLUSTER = ROOT / "configs" / "cluster"


def parses(command: list[str]) -> None:
    """Whether run.py understands a command line, down to its last option."""
    done = subprocess.run(
        [sys.executable, "run.py", *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_launcher_file_fits_rays_schema() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    launcher = yaml.safe_load((CLUSTER / "launcher.yaml").read_text())
    jsonschema.validate(launcher, schema)
    assert launcher["head_node_type"] in launcher["available_node_types"]
    submit = next(line for line in (CLUSTER / "launcher.yaml").read_text().splitlines() if "ray submit" in line)
    command = shlex.split(submit.split("run.py", 1)[1].replace("zip-ray/configs", "configs"))
    parses(command)


def test_ray_job_manifest() -> None:
    job = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    python, script, *command = shlex.split(spec["entrypoint"])
    assert (python, script) == ("python", "/zip-ray/run.py")
    parses([part.replace("/zip-ray/", "") for part in command])
    assert spec["rayClusterSpec"]["rayVersion"] == ray.__version__
    head = spec["rayClusterSpec"]["headGroupSpec"]
    groups = [head["template"], *(group["template"] for group in spec["rayClusterSpec"]["workerGroupSpecs"])]
    folder = Path(command[command.index("--output.dir") + 1])
    for group in groups:
        volumes = {volume["name"] for volume in group["spec"]["volumes"]}
        mounts = [mount for container in group["spec"]["containers"] for mount in container["volumeMounts"]]
        assert all(mount["name"] in volumes for mount in mounts)
        assert any(folder.is_relative_to(mount["mountPath"]) for mount in mounts), "the run outlives the pods"


@pytest.mark.timeout(240)
def test_slurm_script_on_one_machine(tmp_path: Path) -> None:
    """With Slurm's commands played by small scripts, everything else is real: Ray head, worker, driver, token."""
    for name, body in {
        "scontrol": "echo 127.0.0.1; echo 127.0.0.2",
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "RAY_USAGE_STATS_ENABLED": "0",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "1",
    }
    run = tmp_path / "run"
    command = [CLUSTER / "slurm.sh", "configs/quickstart.yaml", *SETTINGS[:-2], "--output.dir", run]
    process = subprocess.Popen(
        ["bash", *map(str, command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended all that it started
            os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 0, output
    assert read_record(run / "metrics.jsonl")[-1]["event"] == "end"


@pytest.mark.parametrize("path", sorted(CLUSTER.iterdir()), ids=lambda path: path.name)
def test_each_opens_with_the_command_that_runs_it(path: Path) -> None:
    opening = "\n".join(path.read_text().splitlines()[:12])
    assert any(command in opening for command in ("ray up", "kubectl apply", "sbatch"))
