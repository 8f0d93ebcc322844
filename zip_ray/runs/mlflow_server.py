"""MLflow servers and sqlite stores: how they are reached, and which MLflow run belongs to a folder."""

import json
import logging
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zip_ray.config.secrets import without_secrets
from zip_ray.config.tracking import TrackingConfig
from zip_ray.errors import InputError, one_line
from zip_ray.files import write_whole

STATE = "tracking.json"
_log = logging.getLogger(__name__)


def make_client(uri: str) -> Any:
    """An MLflow client with short timeouts: with its own retries it waits for minutes. Importing it takes seconds."""
    for name, value in (
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"),
        ("MLFLOW_LOGGING_LEVEL", "WARNING"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ):
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def ping(config: TrackingConfig) -> None:
    """Check that the server answers.

    Raises:
        InputError: it does not answer.
    """
    try:
        make_client(resolve_uri(config.address)).search_experiments(max_results=1)
    except Exception as error:
        raise no_answer(config.address, error) from error


def find_or_create_run(client: Any, config: TrackingConfig, folder: Path, started: float) -> Any:
    """The MLflow run of a folder; `started` in seconds since 1970."""
    found = client.get_experiment_by_name(config.experiment_name)
    location = artifact_location(resolve_uri(config.address))
    number = found.experiment_id if found else client.create_experiment(config.experiment_name, location)
    key = run_key(folder)
    if runs := client.search_runs([number], f"tags.zip_ray_run_key = '{key}'"):
        return runs[0]
    tags = {"zip_ray_run_key": key, "mlflow.runName": config.name or folder.name}
    parent = {"mlflow.parentRunId": config.parent} if config.parent else {}
    return client.create_run(number, start_time=int(1000 * started), tags={**tags, **parent})


def open_parent(folder: Path, config: TrackingConfig) -> str | None:
    """Id of the MLflow run whose parts are the runs of a suite; None, with a warning, if the server does not answer."""
    try:
        return str(
            find_or_create_run(make_client(resolve_uri(config.address)), config, folder, time.time()).info.run_id
        )
    except Exception as error:
        _log.warning(
            "MLflow at %s does not answer: %s; runs get no parent", without_secrets(config.address), error_line(error)
        )
        return None


def close_parent(run_id: str, config: TrackingConfig, files: Sequence[Path], stopped: bool) -> None:
    """Upload a suite's report and close its run; if the server does not answer, that is logged.

    Args:
        run_id: of the suite's own run.
        config: where it is.
        files: the report; none if no run has finished.
        stopped: whether the suite was cut off.
    """
    try:
        client = make_client(resolve_uri(config.address))
        for path in files:
            client.log_artifact(run_id, str(path))
        client.set_terminated(run_id, "KILLED" if stopped else "FINISHED" if files else "FAILED")
    except Exception as error:
        _log.warning(
            "MLflow at %s does not answer: %s; it lacks the report", without_secrets(config.address), error_line(error)
        )


def run_key(folder: Path) -> str:
    """What identifies the run on any server: made once, kept in the run folder."""
    path = folder / STATE
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))["run_key"])
    key = uuid.uuid4().hex
    write_whole(path, (json.dumps({"run_key": key}) + "\n").encode())
    return key


def resolve_uri(uri: str) -> str:
    """The URI, with the path of an sqlite file made absolute: then it is the same file in any working directory."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(os.path.expanduser(path)).absolute()}"


def artifact_location(uri: str) -> str | None:
    """Folder of the artifacts of an sqlite store: mlruns/ beside it. None for a server, which has its own."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else (Path(path).parent / "mlruns").as_uri()


def no_answer(uri: str, error: Exception) -> InputError:
    """The error of a server that does not answer."""
    return InputError(
        f"tracking.uri: '{without_secrets(uri)}' does not answer ({error_line(error)}): start the server, correct the "
        "address, or switch it off with tracking.enabled: false"
    )


def error_line(error: Exception) -> str:
    """An error as one line, without user name and password."""
    return str(without_secrets(one_line(error)))
