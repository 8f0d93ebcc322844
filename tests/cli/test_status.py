"""`zip-ray status` from the folder alone, and the same figures among Ray's metrics."""

import fcntl
import json
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from tests.support.events import end_event, pool_event, step_event, validation_event
from tests.support.paths import ROOT
from tests.support.processes import wait_for
from zip_ray.actors.metrics import RayMetrics
from zip_ray.cli.main import main
from zip_ray.cli.status import status
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.runs.event_log import Record
from zip_ray.runs.folder import write_config

STEP = step_event(4, loss=1.5, staleness=1.5, wasted=6)
POOL = pool_event(pending=1, last_error="actor 2: killed", paces=(0.1, 0.4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_config(tmp_path, Config())
    record = Record(tmp_path / "metrics.jsonl")
    for event in (POOL, replace(STEP, step=1, queries=10, seconds=0.5), STEP):
        record.append(event)
    record.close()
    return tmp_path


def test_a_run_that_goes_on(folder: Path) -> None:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        head, *lines = status(folder)
    assert head.startswith(f"{folder}: running, last event ")
    assert lines[0] == "40/5,000 queries  loss 1.500  accuracy 50.0%"
    assert "20 queries/s, 20 since the start  4:08 left  staleness 1.5  6 queries wasted" in lines[1]
    assert lines[2] == "actors: 3 ready, 1 pending  0.1 to 0.4 s per pass  last error: actor 2: killed"


def test_a_run_that_nobody_here_holds(folder: Path) -> None:
    assert "not running on this machine" in status(folder)[0]
    assert f"zip-ray resume {folder}" in status(folder)[0]


def test_a_finished_run(folder: Path) -> None:
    record = Record(folder / "metrics.jsonl")
    record.append(end_event(4))
    record.close()
    head, queries, speed, accuracy = status(folder)  # no actors, and no time left
    assert head == f"{folder}: finished"
    assert queries.startswith("40/5,000 queries  loss 1.500")
    assert speed == "20 queries/s"
    assert accuracy.startswith("tuned prompt: test accuracy ")


def test_a_run_that_has_not_begun(folder: Path) -> None:
    (folder / "metrics.jsonl").unlink()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert status(folder) == [f"{folder}: starting: hand-written prompts are tested before the first step"]
    (line,) = status(folder)
    assert line.startswith(f"{folder}: not started, and not running on this machine")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config.yaml: give the folder of a run"):
        status(tmp_path)


def test_home_is_read_on_the_command_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert main(["status", f"~/{folder.name}"]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: not running")
    with pytest.raises(SystemExit):
        main(["tune", f"~/{folder.name}/config.yaml", f"--output.dir=~/{folder.name}", "--cluster.pool=in-process"])
    assert f"output.dir: '{folder}' exists" in capsys.readouterr().err


def test_ray_metrics(ray_cluster: str) -> None:
    """As Prometheus reads them; the dashboard for Grafana shows each of them, and no other."""
    ray.init(address=ray_cluster, logging_level="ERROR", log_to_driver=False)
    first, latest = (replace(STEP, dropped=3, step=k, queries=10 * k, seconds=k / 2) for k in (1, 4))
    try:
        metrics = RayMetrics("first", Config().budget)
        for event in (POOL, first, latest, validation_event(4), replace(latest, loss=float("nan"))):
            metrics.event(event)
        (node,) = [node for node in ray.nodes() if node["Alive"]]
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

        step = {"queries": 40, "loss": 1.5, "dropped_answers": 3, "mean_queries_per_second": 20, "seconds_left": 248}
        pool = {"actors_ready": 3, "actors_pending": 1, "fastest_pass_seconds": 0.1, "slowest_pass_seconds": 0.4}
        wanted = {f"ray_zip_ray_{name}": value for name, value in (step | pool).items()}

        def exported() -> dict[str, float]:
            lines = urllib.request.urlopen(address, timeout=5).read().decode().splitlines()
            return {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines if 'run="first"' in line}

        wait_for(lambda: wanted.items() <= exported().items())
        dashboard = json.loads((ROOT / "configs/cluster/grafana.json").read_text())
        queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        assert sorted(queries) == sorted(f'{name}{{run=~"$run"}}' for name in exported())
        variables = {variable["name"]: variable["query"] for variable in dashboard["templating"]["list"]}
        assert variables["run"]["query"] == "label_values(ray_zip_ray_queries, run)"
    finally:
        ray.shutdown()
