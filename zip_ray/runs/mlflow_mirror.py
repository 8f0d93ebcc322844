"""MLflow as a copy of the record: one thread follows the file and sends what the server lacks.

The record is the buffer: the loop writes lines and never waits for the server. What to send is decided by what the
server already has, so that a resume, a replay or a crash between two requests never makes a duplicate. MLflow cannot
delete a point: after a crash of the driver of an asynchronous run, the repeated steps have other values, and MLflow
keeps the points of the undone steps; the record has the correct ones.
"""

import json
import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zip_ray.config.tracking import TrackingConfig
from zip_ray.errors import InputError
from zip_ray.prompts.initial_text import FILE_NAME as PROMPT
from zip_ray.runs.background import join
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import read_from
from zip_ray.runs.mlflow_model import FOLDER as MODEL
from zip_ray.runs.mlflow_model import classifies_alone, save_mlflow_model
from zip_ray.runs.mlflow_server import find_or_create_run, make_client, no_answer, resolve_uri, trouble
from zip_ray.tuning.events import (
    ChosenEvent,
    EndEvent,
    Event,
    PoolEvent,
    ReadoutEvent,
    StallEvent,
    StartEvent,
    StepEvent,
    ValidationEvent,
)

ARTIFACTS = ("config.yaml", PROMPT, "tuned_prompt.json", "accuracy.png", RECORD)
BELOW_ZERO_SHOT = "below_zero_shot"
"""Tag of a finished run: `true` if its tuned prompt is below the task's plain template, else `false`."""
NOTE = "mlflow.note.content"
"""Tag that MLflow shows as the description of a run."""
DIGEST_LENGTH = 36
"""Of a data set's digest: MLflow's limit."""
BATCH = 1000
"""Metrics per request: MLflow's limit."""
POLL_SECONDS = 2.0
LONGEST_WAIT = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replayed:
    """The outcome of a replay."""

    run_id: str
    metrics: int
    """Points sent, without those that the server already had."""
    artifacts: int


def metrics_of(event: Event) -> dict[str, float]:
    """The finite numbers of an event, by their names in MLflow.

    A metric's step is the number of queries charged, its time that of the run (start + seconds of tuning): MLflow can
    plot it against either.
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
            counts = {
                "ready": event.ready,
                "loading": event.loading,
                "pending": event.pending,
                "given-up": event.given_up,
            }
            figures = {f"actors/{state}": float(count) for state, count in counts.items()}
        case EndEvent():
            gain = event.test_accuracy - event.zero_shot_accuracy
            figures = {
                "test/accuracy": event.test_accuracy,
                "test/zero_shot_accuracy": event.zero_shot_accuracy,
                "test/gain": gain,
            }
        case StartEvent() | StallEvent() | ChosenEvent() | ReadoutEvent():
            figures = {}
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def description(start: StartEvent) -> str:
    """What MLflow's page of a run says at its top: a sentence."""
    task, budget, seed = start.config["task"], start.config["budget"], start.config["seed"]
    limits = [f"{budget[unit]:g} {unit}" for unit in ("queries", "seconds", "steps") if budget[unit] is not None]
    model = start.config["model"].get("name", start.config["model"]["scorer"])  # a user's own scorer may have no name
    return (
        f"`{start.config['optimizer']['method']}` tunes a prompt of `{model}` for "
        f"`{task['name']}`, {task['shots']} images per class, seed {seed}, within {' and '.join(limits)}."
    )


def data_set(start: StartEvent) -> Any:
    """The images of a run, as MLflow records an input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    task = start.config["task"]
    source = json.dumps({name: task.get(name) for name in ("name", "root")})
    profile = json.dumps({"classes": len(start.classnames), **start.images})
    made = Dataset(task["name"], start.images_digest[:DIGEST_LENGTH], "zip-ray task", source, profile=profile)
    return DatasetInput(made, [InputTag("mlflow.data.context", "training")])


class Mirror:
    """The copy of one run folder on one MLflow server. Its methods let MLflow's exceptions pass."""

    def __init__(self, folder: Path, config: TrackingConfig) -> None:
        self._folder, self._config = folder, config
        self._uri = resolve_uri(config.address)
        self._client: Any = None
        self._has: dict[str, set[int]] = {}
        """By metric, the steps of the points that the server had when it was connected to."""
        self._offset = 0
        self._started = 0.0
        self._end: EndEvent | None = None
        self.run_id = ""

    def sync(self) -> int:
        """Send the points that the server lacks; their number.

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
        """Upload the artifacts and close the run, if the record has its end; the number of artifacts sent."""
        if self._end is None:
            self._client.set_terminated(self.run_id, "KILLED")
            return 0
        present = [self._folder / name for name in ARTIFACTS if (self._folder / name).is_file()]
        for path in present:
            self._client.log_artifact(self.run_id, str(path))
        if (prompt := self._folder / PROMPT) in present:
            self._log_model(prompt)
        self._client.set_tag(self.run_id, BELOW_ZERO_SHOT, str(self._end.below_zero_shot).lower())
        self._client.set_terminated(self.run_id, "FINISHED")
        return len(present)

    def _log_model(self, prompt: Path) -> None:
        """Upload what classifies images, where the prompt can do so by itself."""
        if not classifies_alone(prompt):
            return
        with TemporaryDirectory() as place:
            save_mlflow_model(prompt, Path(place, MODEL))
            self._client.log_artifacts(self.run_id, str(Path(place, MODEL)), MODEL)

    def forget(self) -> None:
        """After an error, forget which points the server has."""
        self._client, self._offset, self._has, self._end = None, 0, {}, None

    def _connect(self, start: StartEvent) -> None:
        client = make_client(self._uri)
        self._started = start.time
        run = find_or_create_run(client, self._config, self._folder, self._started)
        self.run_id = run.info.run_id
        self._log_parameters(
            client, {**_flat(start.config), **_flat(start.environment, "environment.")}, set(run.data.params)
        )
        client.set_tag(self.run_id, NOTE, description(start))
        if start.images_digest:  # records of earlier versions have none
            client.log_inputs(self.run_id, [data_set(start)])  # once, however often it is sent
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
    """Keeps the copy of a run up to date while it runs, in a background thread."""

    def __init__(self, folder: Path, config: TrackingConfig) -> None:
        self._mirror = Mirror(folder, config)
        self._uri = config.address
        self._closing = threading.Event()
        self._complete = False
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def start(self) -> None:
        """Begin to send; the record must have its first line."""
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the rest is sent; whether the server has everything."""
        self._closing.set()
        join(self._thread, timeout, "uploading the last results to MLflow")
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
            except Exception as error:  # raised by MLflow, requests or SQLAlchemy: the run continues
                self._mirror.forget()
                if not warned:
                    _log.warning("%s; the run continues", trouble(self._uri, error))
                warned, wait = True, min(2 * wait, LONGEST_WAIT)
                if last:
                    return
            self._closing.wait(wait)


def replay(folder: Path, config: TrackingConfig) -> Replayed:
    """Send to MLflow whatever it lacks of a run folder; repeating the call sends nothing.

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
        raise no_answer(config.address, error) from error


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The leaves of a tree by their dotted path."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return flat
