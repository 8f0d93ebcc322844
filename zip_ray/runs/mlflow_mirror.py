"""MLflow as a copy of the record: one thread tails the file and sends what the server does not have.

The record is the buffer: the loop writes lines and never hears of the server. What the server has is asked of the
server itself, so that a resume, a replay or a crash between two sends never makes a duplicate. MLflow cannot take a
point back: after a killed driver of an asynchronous run, whose redone steps have other figures, it keeps the points of
the undone ones at those numbers of queries; the record has the true ones.
"""

import json
import logging
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zip_ray.config.tracking import TrackingConfig
from zip_ray.errors import InputError
from zip_ray.files import write_whole
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import read_from
from zip_ray.tuning.events import EndEvent, Event, PoolEvent, StartEvent, StepEvent, ValidationEvent

ARTIFACTS = ("config.yaml", "tuned_prompt.safetensors", "tuned_prompt.json", "accuracy.png", RECORD)
STATE = "tracking.json"
BELOW_ZERO_SHOT = "below_zero_shot"
"""Tag of a run that has ended: `true` where its tuned prompt is below the task's plain template."""
BATCH = 1000
"""Metrics in one request: MLflow's limit."""
POLL_SECONDS = 2.0
LONGEST_WAIT = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replayed:
    """What a replay did."""

    run_id: str
    metrics: int
    """Points sent; those that the server had are not counted."""
    artifacts: int


def metrics_of(event: Event) -> dict[str, float]:
    """The finite figures of an event, by MLflow's names for them.

    A metric's step is the number of queries charged, its time that of the run (start + seconds of tuning): MLflow draws
    it against either.
    """
    match event:
        case StepEvent():
            figures = {
                "train/loss": event.loss,
                "train/accuracy": event.accuracy,
                "train/gradient_norm": event.gradient_norm,
                "train/clipped": float(event.clipped),
                "train/staleness": event.staleness,
                "queries_per_second": event.queries_per_second,
                "queries_wasted": float(event.wasted),
                "seconds": event.seconds,
            }
        case ValidationEvent():
            figures = {"validation/loss": event.loss, "validation/accuracy": event.accuracy}
        case PoolEvent():
            counts = {"ready": event.ready, "pending": event.pending, "given-up": event.given_up}
            figures = {f"actors/{state}": float(count) for state, count in counts.items()}
        case EndEvent():
            figures = {"test/accuracy": event.test_accuracy, "test/zero_shot_accuracy": event.zero_shot_accuracy}
        case StartEvent():
            figures = {}
    return {name: value for name, value in figures.items() if math.isfinite(value)}


class Mirror:
    """The copy of one run folder on one MLflow server. Its methods raise whatever MLflow raises."""

    def __init__(self, folder: Path, config: TrackingConfig) -> None:
        self._folder, self._config = folder, config
        self._uri = resolve_uri(config.uri)
        self._client: Any = None
        self._has: dict[str, set[int]] = {}
        """Steps of the points, by metric, that the server had when it was connected to."""
        self._offset = 0
        self._started = 0.0
        self._end: EndEvent | None = None
        self.run_id = ""

    def sync(self) -> int:
        """Send the points that the server lacks; how many those were.

        Raises:
            InputError: no record, an empty or a damaged one.
        """
        events, offset = read_from(self._folder / RECORD, self._offset)
        if self._client is None:
            if not events or not isinstance(events[0], StartEvent):
                raise InputError(f"{self._folder / RECORD}: does not open with the start of a run: nothing can be sent")
            self._connect(events[0])
        points = [point for event in events for point in self._points(event)]
        for start in range(0, len(points), BATCH):
            self._client.log_batch(self.run_id, metrics=points[start : start + BATCH])
        self._offset = offset
        self._end = next((event for event in events if isinstance(event, EndEvent)), self._end)
        return len(points)

    def finish(self) -> int:
        """Upload the artifacts that exist and close the run, if the record says it ended; how many were sent."""
        if self._end is None:
            self._client.set_terminated(self.run_id, "KILLED")
            return 0
        present = [self._folder / name for name in ARTIFACTS if (self._folder / name).is_file()]
        for path in present:
            self._client.log_artifact(self.run_id, str(path))
        self._client.set_tag(self.run_id, BELOW_ZERO_SHOT, str(self._end.below_zero_shot).lower())
        self._client.set_terminated(self.run_id, "FINISHED")
        return len(present)

    def forget(self) -> None:
        """After an error: what the server has is not known any more."""
        self._client, self._offset, self._has, self._end = None, 0, {}, None

    def _connect(self, start: StartEvent) -> None:
        client = _client(self._uri)
        self._started = start.time
        run = _find_or_create(client, self._config, self._folder, self._started)
        self.run_id = run.info.run_id
        self._log_parameters(
            client, {**_flat(start.config), **_flat(start.environment, "environment.")}, set(run.data.params)
        )
        for name in run.data.metrics:
            self._has[name] = {point.step for point in client.get_metric_history(self.run_id, name)}
        self._client = client

    def _log_parameters(self, client: Any, facts: dict[str, str], known: set[str]) -> None:
        from mlflow.entities import Param

        new = [Param(key, value[:500]) for key, value in facts.items() if key not in known]  # they cannot be changed
        for start in range(0, len(new), 100):
            client.log_batch(self.run_id, params=new[start : start + 100])

    def _points(self, event: Event) -> list[Any]:
        from mlflow.entities import Metric

        at = int(1000 * (self._started + event.seconds))
        return [
            Metric(name, value, at, event.queries)
            for name, value in metrics_of(event).items()
            if event.queries not in self._has.get(name, ())
        ]


class Tracker:
    """Keeps the copy of a running run up to date, in a thread that nothing waits for."""

    def __init__(self, folder: Path, config: TrackingConfig) -> None:
        self._mirror = Mirror(folder, config)
        self._uri = config.uri
        self._closing = threading.Event()
        self._complete = False
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def start(self) -> None:
        """Begin to send; the record must hold its first line."""
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Give the thread so many seconds to send the rest, then leave it; whether the server has everything."""
        self._closing.set()
        self._thread.join(timeout)
        return self._complete

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; empty until the server has answered."""
        return self._mirror.run_id

    def _run(self) -> None:
        wait, warned = POLL_SECONDS, False
        while True:
            last = self._closing.is_set()
            try:
                self._mirror.sync()
                if last:
                    self._mirror.finish()
                    self._complete = True
                    return
                wait = POLL_SECONDS
            except Exception as error:  # MLflow, requests, SQLAlchemy: whatever it is, the run goes on without it
                self._mirror.forget()
                if not warned:
                    mute = f"MLflow at {shown(self._uri)} does not answer"
                    what = "MLflow copy" if isinstance(error, InputError) else mute
                    _log.warning("%s: %s; the run goes on", what, _line(error))
                warned, wait = True, min(2 * wait, LONGEST_WAIT)
                if last:
                    return
            self._closing.wait(wait)


def replay(folder: Path, config: TrackingConfig) -> Replayed:
    """Send to MLflow what it lacks of a run folder; doing it again changes nothing.

    Raises:
        InputError: no record, or a server that does not answer.
    """
    mirror = Mirror(folder, config)
    try:
        metrics = mirror.sync()
        return Replayed(mirror.run_id, metrics, mirror.finish())
    except InputError:
        raise
    except Exception as error:
        raise _silent(config.uri, error) from error


def open_parent(folder: Path, config: TrackingConfig) -> str | None:
    """Id of the MLflow run that the runs of a suite are parts of; None, with a warning, where the server is silent."""
    try:
        return str(_find_or_create(_client(resolve_uri(config.uri)), config, folder, time.time()).info.run_id)
    except Exception as error:
        _log.warning("MLflow at %s does not answer: %s; runs get no parent", shown(config.uri), _line(error))
        return None


def close_parent(run_id: str, config: TrackingConfig, files: Sequence[Path], stopped: bool) -> None:
    """Upload a suite's report and close its run; a server that is silent is logged.

    Args:
        run_id: of the suite's own run.
        config: where it is.
        files: the report; none where no run has come to its end.
        stopped: whether the suite was cut off.
    """
    try:
        client = _client(resolve_uri(config.uri))
        for path in files:
            client.log_artifact(run_id, str(path))
        client.set_terminated(run_id, "KILLED" if stopped else "FINISHED" if files else "FAILED")
    except Exception as error:
        _log.warning("MLflow at %s does not answer: %s; it lacks the report", shown(config.uri), _line(error))


def _find_or_create(client: Any, config: TrackingConfig, folder: Path, started: float) -> Any:
    """The MLflow run of a folder."""
    found = client.get_experiment_by_name(config.experiment)
    location = artifact_location(resolve_uri(config.uri))
    number = found.experiment_id if found else client.create_experiment(config.experiment, location)
    key = run_key(folder)
    if runs := client.search_runs([number], f"tags.zip_ray_run_key = '{key}'"):
        return runs[0]
    tags = {"zip_ray_run_key": key, "mlflow.runName": config.name or folder.name}
    parent = {"mlflow.parentRunId": config.parent} if config.parent else {}
    return client.create_run(number, start_time=int(1000 * started), tags={**tags, **parent})


def ping(config: TrackingConfig) -> None:
    """Ask the server something cheap.

    Raises:
        InputError: it does not answer.
    """
    try:
        _client(resolve_uri(config.uri)).search_experiments(max_results=1)
    except Exception as error:
        raise _silent(config.uri, error) from error


def _silent(uri: str, error: Exception) -> InputError:
    return InputError(
        f"tracking.uri: '{shown(uri)}' does not answer ({_line(error)}): start the server, correct the address, "
        "or switch it off with tracking.enabled: false"
    )


def run_key(folder: Path) -> str:
    """The run's own name for itself on any server: made once, kept in the run folder."""
    path = folder / STATE
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))["run_key"])
    key = uuid.uuid4().hex
    write_whole(path, (json.dumps({"run_key": key}) + "\n").encode())
    return key


def resolve_uri(uri: str) -> str:
    """A relative sqlite file, made absolute, so that a command given elsewhere finds the same one."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(path).expanduser().absolute()}"


def artifact_location(uri: str) -> str | None:
    """Where artifacts of a sqlite store lie: mlruns/ beside it. A server decides for itself."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else (Path(path).parent / "mlruns").as_uri()


def shown(uri: str) -> str:
    """An address without user name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _client(uri: str) -> Any:
    """An MLflow client that gives up soon: its own retries take minutes. Importing it takes seconds."""
    for name, value in (
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"),
        ("MLFLOW_LOGGING_LEVEL", "WARNING"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ):
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The leaves of a tree by their dotted path."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return flat


def _line(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {' '.join(str(error).split())}"[:200])
