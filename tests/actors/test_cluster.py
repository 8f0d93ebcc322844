"""A local Ray that does not start: tried again, nothing left behind, one line with the remedy."""

import psutil
import pytest
import ray

from tests.support.paths import ROOT
from zip_ray.actors import connect
from zip_ray.actors.cluster import describe_cluster
from zip_ray.cli.main import main
from zip_ray.config.resources import ClusterConfig
from zip_ray.pool.contract import PoolError

LATE = Exception("The current node timed out during startup.\nThis could happen because ...")


def rays() -> list[psutil.Process]:
    """What this process has started of Ray, without what runs in Python."""
    return [process for process in psutil.Process().children() if process.name() in ("gcs_server", "raylet")]


@pytest.mark.parametrize("fault", [LATE, SystemExit(1)])
def test_a_late_start_is_tried_once_more(monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    outcomes = [fault, None]

    def init(**_: object) -> None:
        if error := outcomes.pop(0):
            raise error

    monkeypatch.setattr(ray, "init", init)
    assert connect(ClusterConfig())
    assert not outcomes


@pytest.mark.usefixtures("handlers")
def test_a_start_that_fails_twice_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "0")  # its first process has no time to come up
    assert main(["tune", str(ROOT / "configs/methods/zip-tuned.yaml"), "--tracking.no-enabled"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: Ray does not start on this machine (Timed out waiting")
    assert said.endswith("use --cluster.pool in-process, or join a cluster by --cluster.address\n")
    assert said.count("\n") == 1


@pytest.mark.usefixtures("cluster")
def test_a_failed_start_leaves_no_process_and_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "0")
    before = set(rays())
    with pytest.raises(PoolError):
        connect(ClusterConfig())
    assert set(rays()) == before != set()


def test_the_description_counts_the_nodes_that_are_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray lists those that are down too."""
    nodes = [{"Alive": alive, "Resources": {"CPU": 4.0}} for alive in (True, False, True)]
    monkeypatch.setattr("zip_ray.actors.cluster.connect", lambda _: False)
    for name, value in (("nodes", nodes), ("cluster_resources", {"CPU": 8.0, "GPU": 1.0}), ("shutdown", None)):
        monkeypatch.setattr(ray, name, lambda value=value: value)
    assert describe_cluster(ClusterConfig()) == "joined: 2 nodes, 8 CPU, 1 GPU"
