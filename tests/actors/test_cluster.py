"""A local Ray, or the server for a Ray client, fails to start: one retry, then one line with the remedy."""

import psutil
import pytest
import ray

from tests.support.paths import ROOT
from zip_ray.actors.cluster import connect, describe_cluster
from zip_ray.cli.main import main
from zip_ray.config.resources import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError

ELSEWHERE = ClusterConfig(address="ray://head:10001")
LATE = Exception("The current node timed out during startup.\nThis could happen because ...")

LATE_SERVER = ConnectionAbortedError(
    "Initialization failure from server:\nTraceback (most recent call last):\n  File ...\n"
    "RuntimeError: Starting Ray client server failed. See ray_client_server_23000.err for detailed logs.\n"
)
"""Ray's own message."""


def rays() -> list[psutil.Process]:
    """Ray's processes that this process has started, without Python workers."""
    return [process for process in psutil.Process().children() if process.name() in ("gcs_server", "raylet")]


def starts(monkeypatch: pytest.MonkeyPatch, *outcomes: BaseException | None) -> list[BaseException | None]:
    """Make Ray's starts end with these outcomes, in order; returns those still to come."""
    later = list(outcomes)

    def init(**_: object) -> None:
        if error := later.pop(0):
            raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr("zip_ray.actors.cluster.probe", lambda _: None)
    return later


@pytest.mark.parametrize("fault", [LATE, SystemExit(1)])
def test_a_late_start_is_tried_once_more(monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    later = starts(monkeypatch, fault, None)
    assert connect(ClusterConfig()) == "started"
    assert not later


def test_a_late_server_of_a_client_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    later = starts(monkeypatch, LATE_SERVER, None)
    assert connect(ELSEWHERE) == "joined"
    assert not later


def test_a_server_of_a_client_that_is_late_twice_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    starts(monkeypatch, LATE_SERVER, LATE_SERVER)
    with pytest.raises(PoolError) as raised:
        connect(ELSEWHERE)
    assert str(raised.value) == (
        "the Ray cluster at 'ray://head:10001' does not start its server for this client (RuntimeError: Starting Ray "
        "client server failed. See ray_client_server_23000.err for detailed logs.): free memory or cores on its head, "
        "or join the cluster without ray://"
    )


@pytest.mark.parametrize("cluster", [ELSEWHERE, ClusterConfig()])
def test_sigterm_while_ray_starts_ends_the_program(monkeypatch: pytest.MonkeyPatch, cluster: ClusterConfig) -> None:
    """At that point Ray's own handler exits with the signal's number, which is not a fault of the cluster."""
    later = starts(monkeypatch, SystemExit(15), None)
    with pytest.raises(KeyboardInterrupt):
        connect(cluster)
    assert later


def test_a_refusal_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    later = starts(monkeypatch, RuntimeError("Version mismatch"), None)
    with pytest.raises(InputError, match="use its versions of Ray"):
        connect(ELSEWHERE)
    assert later


@pytest.mark.usefixtures("handlers")
def test_a_start_that_fails_twice_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "0")  # Ray's first process gets no time to start
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
    """Ray's list also has nodes that are down."""
    nodes = [{"Alive": alive, "Resources": {"CPU": 4.0}} for alive in (True, False, True)]
    monkeypatch.setattr("zip_ray.actors.cluster.connect", lambda *_: "joined")
    for name, value in (("nodes", nodes), ("cluster_resources", {"CPU": 8.0, "GPU": 1.0}), ("shutdown", None)):
        monkeypatch.setattr(ray, name, lambda value=value: value)
    assert describe_cluster(ClusterConfig()) == "joined: 2 nodes, 8 CPU, 1 GPU"


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (
            OSError(
                "validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /tmp/long/plasma_store"
            ),
            "set RAY_TMPDIR to a folder with a shorter path",
        ),
        (FileNotFoundError(2, "No such file or directory", "/nowhere"), "set RAY_TMPDIR to a folder that exists"),
        (PermissionError(13, "Permission denied", "/home/me/.ray"), "can be written to, and HOME too"),
        (LATE, "free memory or cores"),
    ],
)
def test_a_local_start_that_fails_names_its_remedy(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, remedy: str
) -> None:
    starts(monkeypatch, fault, fault)
    with pytest.raises(PoolError, match=remedy) as raised:
        connect(ClusterConfig())
    assert "\n" not in str(raised.value)
