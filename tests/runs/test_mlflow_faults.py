"""MLflow faults with a cause of their own, which the message names; a new sqlite file opened by many at once."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.events import end_event, start_event, step_event
from tests.support.processes import HANG_SECONDS
from zip_ray.config.tracking import TrackingConfig
from zip_ray.errors import InputError
from zip_ray.runs.event_log import Record
from zip_ray.runs.mlflow_mirror import Tracker, replay
from zip_ray.runs.mlflow_server import find_or_create_run, make_client, open_parent, ping, resolve_uri

AT_ONCE = """
import multiprocessing, os, sys, time
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from zip_ray.config.tracking import TrackingConfig
from zip_ray.runs.mlflow_server import find_or_create_run, make_client, resolve_uri

def contact(number, barrier):
    folder = Path(f"run{number}")
    folder.mkdir()
    barrier.wait()
    find_or_create_run(make_client(resolve_uri("sqlite:///mlflow.db")), TrackingConfig(), folder, time.time())

fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(3)
processes = [fork.Process(target=contact, args=(number, barrier)) for number in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(sum(process.exitcode != 0 for process in processes))
"""


def recorded(folder: Path) -> Path:
    folder.mkdir()
    record = Record(folder / "metrics.jsonl")
    for event in (start_event(), step_event(1), end_event(1)):
        record.append(event)
    record.close()
    return folder


def test_a_new_sqlite_file_takes_three_first_contacts_at_once(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", AT_ONCE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_deleted_experiment_is_told_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = recorded(tmp_path / "run")
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="gone")
    client = make_client(resolve_uri(config.address))
    number = client.create_experiment("gone")
    client.delete_experiment(number)
    deleted = rf"^tracking.experiment: 'gone' is deleted in MLflow: .* restore --experiment-id {number}`$"
    with pytest.raises(InputError, match=deleted):
        ping(config)
    with pytest.raises(InputError, match=deleted):
        replay(folder, config)
    tracker = Tracker(folder, config)
    tracker.start()
    assert not tracker.close(HANG_SECONDS)
    assert open_parent(folder, config) is None
    assert caplog.text.count("'gone' is deleted in MLflow") == 2
    assert "does not answer" not in caplog.text


def test_an_experiment_that_another_run_is_making_is_used(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="shared")
    client = make_client(resolve_uri(config.address))

    class Late:
        """Does not find the experiment until it has tried to create it."""

        def __init__(self) -> None:
            self.blind = True

        def __getattr__(self, name: str) -> object:
            return getattr(client, name)

        def get_experiment_by_name(self, name: str) -> object:
            if self.blind:
                self.blind = False
                client.create_experiment(name)
                return None
            return client.get_experiment_by_name(name)

    (tmp_path / "run").mkdir()
    run = find_or_create_run(Late(), config, tmp_path / "run", 1.0)
    assert run.info.experiment_id == client.get_experiment_by_name("shared").experiment_id


def test_a_question_mark_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "what?"
    place.mkdir()
    monkeypatch.chdir(place)
    sent = replay(recorded(place / "run"), TrackingConfig(uri="sqlite:///mlflow.db"))
    assert sent.run_id
    assert (place / "mlflow.db").is_file()
    assert list((place / "mlruns").rglob("metrics.jsonl"))
    assert [path.name for path in tmp_path.iterdir()] == ["what?"]


@pytest.fixture(params=["", '{"message": "unknown caller"}', '{"error_code": "PERMISSION_DENIED", "message": "no"}'])
def closed_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that answers everything with 401."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()
            self.wfile.write(request.param.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_refusal_is_told_with_its_number(closed_server: str) -> None:
    with pytest.raises(InputError, match=r"refuses .*401.*MLFLOW_TRACKING_USERNAME") as caught:
        ping(TrackingConfig(uri=closed_server))
    assert "start the server" not in str(caught.value)
