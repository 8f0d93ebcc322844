"""configs/cluster/: the launcher file and Slurm script run on this machine; the manifest's content is checked."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import psutil
import pytest
import ray.autoscaler
import yaml

from tests.support.command_line import run
from tests.support.fake_ray import FakeRay
from tests.support.fakes import FakeScorer, numbered_pair
from tests.support.faults import check_each
from tests.support.paths import RAY, ROOT
from tests.support.processes import HANG_SECONDS, free_port, wait_for
from zip_ray.actors.ray_pool import RayPool
from zip_ray.cli import settings
from zip_ray.cli.main import bound
from zip_ray.runs.event_log import read_record
from zip_ray.testing.pool_contract import drain
from zip_ray.tuning.events import EndEvent

pytestmark = pytest.mark.slow

CLUSTER = ROOT / "configs" / "cluster"
SMALL = ("--budget.queries", "100", "--cluster.actors", "1", "--tracking.no-enabled")


def parses(command: list[str]) -> None:
    """Whether run.py accepts a command line, down to its last option."""
    assert "--budget.queries" in run(ROOT, *command, "--help").stdout
    bound(command[0], command[1:])


def submitted() -> list[str]:
    """run.py's part of the launcher file's command, as run from the project's root."""
    submit = next(line for line in (CLUSTER / "launcher.yaml").read_text().splitlines() if "ray submit" in line)
    return shlex.split(submit.split("run.py", 1)[1].replace("zip-ray/configs", "configs"))


def test_launcher_file_fits_rays_schema() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    launcher = yaml.safe_load((CLUSTER / "launcher.yaml").read_text())
    jsonschema.validate(launcher, schema)
    assert launcher["head_node_type"] in launcher["available_node_types"]
    parses(submitted())


def test_the_launchers_command_begins_without_a_gpu_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head has no GPU and there are no workers: a waiting actor brings up the first, after a boot and a load."""
    monkeypatch.chdir(ROOT)
    command, *arguments = submitted()
    cluster = settings.of_file(**bound(command, arguments)).cluster
    assert cluster.gpus_per_actor == 1
    fake = FakeRay(monkeypatch, places=0)
    pool = RayPool(FakeScorer, cluster)
    pool.submit([numbered_pair(0)])
    while fake.now < 1600:
        assert pool.collect(1.0) == []
        assert [member.state for member in pool.members()] == ["pending"], "what the autoscaler reads"
    fake.places = 1
    assert len(drain(pool, 1)) == 1


PLAYED = {
    "ssh": 'while [[ "$1" != *@* ]]; do shift; done; shift; cd "$HOST_HOME"; HOME="$HOST_HOME" exec bash -c "$*"',
    # Only what the launcher uses: a folder or a file, copied to a path of the "host", minus its top-level exclusions.
    "rsync": """
        skip=(); while [[ "$1" == -* ]]; do case "$1" in --exclude) skip+=("--exclude=.$2"); shift 2;;
        --rsh | --filter) shift 2;; *) shift;; esac; done
        to="${2#*:}"; to="${to/#\\~/$HOST_HOME}"; mkdir -p "$(dirname "$to")"
        if [[ -d "$1" ]]; then mkdir -p "$to"; tar -C "$1" "${skip[@]}" -cf - . | tar -C "$to" -xf -
        else cp "$1" "$to"; fi""",
    # `stop` would end every cluster on this machine; a started node stays a process that can be ended.
    "ray": """
        [[ "$1" == stop ]] && exit 0
        [[ "$1" == start ]] || exec "$REAL_RAY" "$@"
        setsid "$REAL_RAY" "$@" --block --num-cpus=2 --object-store-memory=80000000 </dev/null >"$HOME/head.log" 2>&1 &
        echo $! >"$HOME/head.pid"
        until (exec 3<>"/dev/tcp/127.0.0.1/$HEAD_PORT") 2>/dev/null; do sleep 0.2; done""",
    "python": 'exec "$REAL_PYTHON" "$@"',
    "python3": '[[ "$*" == *pip* ]] || exec "$REAL_PYTHON" "$@"',
}
"""Fake commands for the launcher and its hosts: each host is this machine, with another home folder."""


def play(folder: Path, commands: dict[str, str]) -> None:
    for name, body in commands.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)


def running(pid: int) -> bool:
    """Whether a foreign process is running; in a container it may remain a zombie forever."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_launcher_file_on_one_machine(tmp_path: Path) -> None:
    """Real `ray up` and `ray submit`, with fake ssh and rsync: token, files, start of the head, the run."""
    home, port = tmp_path / "home", free_port()
    for name in ("bin", "home", "own"):
        (tmp_path / name).mkdir()
    play(tmp_path / "bin", PLAYED)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    # A login shell resets PATH; PYTHONPATH stands in for pip installing the project.
    (home / ".bashrc").write_text(f"export PATH={shlex.quote(path)} PYTHONPATH=$HOME/zip-ray\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment = {
        **kept,
        "PATH": path,
        "HOME": str(tmp_path / "own"),
        "HOST_HOME": str(home),
        "REAL_RAY": RAY,
        "REAL_PYTHON": sys.executable,
        "HEAD_PORT": str(port),
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="zr"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    launcher = yaml.safe_load((CLUSTER / "launcher.yaml").read_text())
    for key in ("available_node_types", "head_node_type"):
        del launcher[key]
    changed = {
        "cluster_name": f"zip-ray-{port}",
        "max_workers": 0,
        "provider": {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []},
        "auth": {"ssh_user": "user"},
        "file_mounts": {"~/zip-ray": str(ROOT), "~/.ray/auth_token": str(tmp_path / "own" / ".ray" / "auth_token")},
        "head_start_ray_commands": [
            line.replace("6379", str(port)).replace("--dashboard-host=127.0.0.1", "--include-dashboard=false")
            for line in launcher["head_start_ray_commands"]
        ],
    }
    file = tmp_path / "launcher.yaml"
    file.write_text(yaml.safe_dump({**launcher, **changed}))

    def ray_command(*arguments: str) -> str:
        done = subprocess.run([RAY, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        ray_command("get-auth-token", "--generate")
        ray_command("up", "--yes", "--no-config-cache", str(file))
        command = ("run.py", "tune", "zip-ray/configs/methods/zip-tuned.yaml", "--cluster.address", f"127.0.0.1:{port}")
        log = ray_command("submit", "--no-config-cache", str(file), *command, *SMALL, "--output.dir", "runs/first")
        assert "tuned prompt" in log, log
        assert isinstance(read_record(home / "runs" / "first" / "metrics.jsonl")[-1], EndEvent)
    finally:
        if (home / "head.pid").exists():
            head = int((home / "head.pid").read_text())
            with contextlib.suppress(ProcessLookupError):  # it may have failed to start
                os.kill(head, signal.SIGTERM)
            wait_for(lambda: not running(head))


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


def on_slurm(folder: Path, python: Path) -> dict[str, str]:
    """A job's environment, with small scripts in a folder standing in for Slurm's commands."""
    srun = 'while [[ "$1" == --* ]]; do shift; done; exec "$@"'
    play(folder, {"scontrol": "echo 127.0.0.1; echo 127.0.0.2", "srun": srun})
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHON": str(python),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
    }


def test_slurm_script_on_one_machine(tmp_path: Path) -> None:
    """Except for Slurm's commands everything is real: Ray head, worker, driver, token."""
    folder = tmp_path / "run"
    command = [CLUSTER / "slurm.sh", "configs/methods/zip-tuned.yaml", *SMALL, "--output.dir", folder]
    process = subprocess.Popen(
        ["bash", *map(str, command)],
        cwd=ROOT,
        env=on_slurm(tmp_path, Path(sys.executable)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=HANG_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the script has ended everything it started
            os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 0, output
    assert isinstance(read_record(folder / "metrics.jsonl")[-1], EndEvent)


@pytest.mark.parametrize("starts", [True, False])
def test_slurm_script_waits_for_its_head(tmp_path: Path, starts: bool) -> None:
    """Worker and driver wait for the (here slow) head to be up; if it ends first, they do not start at all."""
    ray = """
        case "$*" in
        "start --head "*) [[ "$STARTS" == True ]] || exit 1; until [[ -e "$CALLS.asked" ]]; do sleep 0.1; done
            echo head >>"$CALLS"; exec sleep 600;;
        status*) touch "$CALLS.asked"; [[ ! -s "$CALLS" ]] && echo "No cluster status." || echo " 1 node_8f";;
        start*) echo worker >>"$CALLS"; exec sleep 600;;
        esac"""
    play(tmp_path, {"ray": ray, "python": 'until grep -q worker "$CALLS"; do sleep 0.1; done; echo driver >>"$CALLS"'})
    calls = tmp_path / "calls"
    done = subprocess.run(
        ["bash", str(CLUSTER / "slurm.sh"), "configs/methods/zip-tuned.yaml"],
        cwd=ROOT,
        env={**on_slurm(tmp_path, tmp_path / "python"), "CALLS": str(calls), "STARTS": str(starts)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    if starts:
        assert done.returncode == 0, done.stderr
        assert calls.read_text().split() == ["head", "worker", "driver"]
    else:
        assert done.returncode == 1
        assert done.stderr.startswith("error: no Ray head at 127.0.0.1:")
        assert not calls.exists()


def test_each_opens_with_the_command_that_runs_it() -> None:
    """Except the dashboard, which is imported in Grafana: JSON has no comments."""
    check_each((path for path in CLUSTER.iterdir() if path.suffix != ".json"), opens_with_the_command_that_runs_it)


def opens_with_the_command_that_runs_it(path: Path) -> None:
    opening = "\n".join(path.read_text().splitlines()[:12])
    assert any(command in opening for command in ("ray up", "kubectl apply", "sbatch"))
