"""MLflow receives the record exactly once, despite any crash. A real server, started and killed by the tests."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.events import end_event, start_event, step_event, validation_event
from tests.support.processes import HANG_SECONDS, free_port, wait_for
from zip_ray.config.secrets import without_secrets
from zip_ray.config.tracking import TrackingConfig
from zip_ray.errors import InputError
from zip_ray.runs.event_log import Record, cut_record, read_record
from zip_ray.runs.mlflow_mirror import Mirror, Tracker, metrics_of, replay
from zip_ray.runs.mlflow_server import resolve_uri
from zip_ray.tuning.events import Event


class Server:
    """An MLflow server over one store, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        store = ["--backend-store-uri", f"sqlite:///{self._folder}/server.db", "--workers", "1"]
        artifacts = ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command + store + artifacts, stdout=log, stderr=log, start_new_session=True, cwd=self._folder
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def alive(server: Server) -> Server:
    if server._process is None:
        server.start()
    return server


def step_events(first: int, last: int) -> list[Event]:
    events: list[Event] = []
    for k in range(first, last + 1):
        events.append(step_event(k, accuracy=k / 1000, clipped=k % 3 == 0))
        if k % 5 == 0:
            events.append(validation_event(k))
    return events


def write(folder: Path, events: list[Event]) -> None:
    record = Record(folder / "metrics.jsonl")
    for event in events:
        record.append(event)
    record.close()


def expected(folder: Path) -> dict[str, list[tuple[int, float]]]:
    points: dict[str, list[tuple[int, float]]] = {}
    for event in read_record(folder / "metrics.jsonl"):
        for name, value in metrics_of(event).items():
            points.setdefault(name, []).append((event.queries, value))
    return points


def on_server(uri: str, run_id: str) -> dict[str, list[tuple[int, float]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    names = client.get_run(run_id).data.metrics
    return {name: sorted((p.step, p.value) for p in client.get_metric_history(run_id, name)) for name in names}


def test_server_has_what_the_lines_say(alive: Server, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    write(tmp_path, [start_event()])
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    tracker = Tracker(tmp_path, TrackingConfig(uri=alive.uri))
    tracker.start()
    write(tmp_path, step_events(1, 12))
    wait_for(lambda: tracker.run_id and on_server(alive.uri, tracker.run_id).get("train/loss"))
    write(tmp_path, [*step_events(13, 20), end_event(20, zero_shot_accuracy=0.75, below_zero_shot=True)])
    assert tracker.close(HANG_SECONDS)
    assert on_server(alive.uri, tracker.run_id) == expected(tmp_path)
    client = MlflowClient(tracking_uri=alive.uri)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.damping"] == "0.03"
    assert run.data.params["environment.python"] == "3"
    assert {file.path for file in client.list_artifacts(tracker.run_id)} == {"config.yaml", "metrics.jsonl"}
    points = on_server(alive.uri, tracker.run_id)
    assert (len(points["train/loss"]), run.data.metrics["test/accuracy"]) == (20, 0.625)
    assert (run.data.metrics["test/zero_shot_accuracy"], run.data.tags["below_zero_shot"]) == (0.75, "true")
    assert [int(step / 10) for step, clipped in points["train/clipped"] if clipped] == [3, 6, 9, 12, 15, 18]


def test_figures_that_are_not_finite_are_not_sent() -> None:
    sent = metrics_of(step_event(1, loss=float("nan"), gradient_norm=float("inf")))
    assert not sent.keys() & {"train/loss", "train/gradient_norm"}
    assert sent["train/accuracy"] == 0.5


def test_killed_server_delays_nothing_and_replay_completes_without_duplicates(alive: Server, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    write(tmp_path, [start_event(images_digest=40 * "a"), *step_events(1, 10)])
    config = TrackingConfig(uri=alive.uri)
    tracker = Tracker(tmp_path, config)
    tracker.start()
    wait_for(lambda: tracker.run_id and on_server(alive.uri, tracker.run_id).get("validation/loss"))
    alive.kill()
    write(tmp_path, [*step_events(11, 20), end_event(20)])
    assert tracker.close(HANG_SECONDS) is False
    with pytest.raises(InputError, match=r"tracking.uri: 'http://127.0.0.1:\d+' does not answer"):
        replay(tmp_path, config)
    alive.start()
    sent = replay(tmp_path, config)
    assert sent.run_id == tracker.run_id, "the run is found again, not made twice"
    assert 0 < sent.metrics < sum(map(len, expected(tmp_path).values())), "only the difference is sent"
    assert on_server(alive.uri, sent.run_id) == expected(tmp_path)
    assert replay(tmp_path, config).metrics == 0
    assert on_server(alive.uri, sent.run_id) == expected(tmp_path)
    run = MlflowClient(tracking_uri=alive.uri).get_run(sent.run_id)
    (images,) = [one.dataset for one in run.inputs.dataset_inputs]
    assert (images.name, images.digest) == ("digits", 36 * "a")
    assert run.data.tags["mlflow.note.content"] == (
        "`gauss-newton` tunes a prompt of `small-clip` for `digits`, 16 images per class, seed 1, within 5000 queries."
    )


def test_half_a_batch_on_the_server_is_not_sent_again(alive: Server, tmp_path: Path) -> None:
    """As after a crash between two requests: some metrics of some steps are already there."""
    write(tmp_path, [start_event(), *step_events(1, 4)])
    config = TrackingConfig(uri=alive.uri)
    mirror = Mirror(tmp_path, config)
    mirror.sync()
    points = [p for event in step_events(5, 9) for p in mirror._points(event)]
    mirror._client.log_batch(mirror.run_id, metrics=points[::3])
    write(tmp_path, [*step_events(5, 12), end_event(12)])
    assert replay(tmp_path, config).run_id == mirror.run_id
    assert on_server(alive.uri, mirror.run_id) == expected(tmp_path)


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(alive: Server, tmp_path: Path) -> None:
    write(tmp_path, [start_event(), *step_events(1, 8)])
    config = TrackingConfig(uri=alive.uri)
    first = Tracker(tmp_path, config)
    first.start()
    assert first.close(HANG_SECONDS)
    cut_record(tmp_path / "metrics.jsonl", 5, 5)
    write(tmp_path, [*step_events(6, 15), end_event(15)])
    second = Tracker(tmp_path, config)
    second.start()
    assert second.close(HANG_SECONDS)
    assert second.run_id == first.run_id
    assert on_server(alive.uri, first.run_id) == expected(tmp_path)


def test_no_server_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [start_event(), end_event(0)])
    tracker = Tracker(tmp_path, TrackingConfig(uri="http://user:secret@127.0.0.1:1"))
    tracker.start()
    assert tracker.close(HANG_SECONDS) is False
    assert "MLflow at http://127.0.0.1:1 does not answer" in caplog.text
    assert "secret" not in caplog.text


def test_local_sqlite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write(folder, [start_event(), *step_events(1, 5), end_event(5)])
    monkeypatch.chdir(tmp_path)
    sent = replay(folder, TrackingConfig())
    assert (tmp_path / "mlflow.db").is_file()
    assert sent.artifacts == 1
    assert list((tmp_path / "mlruns").rglob("metrics.jsonl")), "artifacts lie beside the database"
    monkeypatch.chdir(folder)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert on_server(uri, sent.run_id) == expected(folder)


def test_addresses() -> None:
    assert resolve_uri("http://x:1") == "http://x:1"
    assert resolve_uri("sqlite:///a.db") == f"sqlite:///{Path.cwd()}/a.db"
    assert resolve_uri("sqlite:////a.db") == "sqlite:////a.db"
    assert without_secrets("https://me:pw@host/path") == "https://host/path"


def test_an_empty_record_is_no_fault_of_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [])
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(InputError, match=r"metrics.jsonl: does not open with the start of a run"):
        replay(tmp_path, config)
    tracker = Tracker(tmp_path, config)
    tracker.start()
    assert not tracker.close(HANG_SECONDS)
    assert "MLflow copy: InputError" in caplog.text
    assert "does not answer" not in caplog.text


def test_replay_of_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics.jsonl: No such file"):
        replay(tmp_path, TrackingConfig())
