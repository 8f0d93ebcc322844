"""MLflow servers and sqlite stores: how they are reached, and which MLflow run belongs to a folder."""

import fcntl
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import gethostname
from typing import Any

from zip_ray.config.secrets import without_secrets
from zip_ray.config.tracking import TrackingConfig
from zip_ray.errors import InputError, one_line
from zip_ray.files import write_whole

KIND = "custom_model_development"
"""MLflow's word for experiments whose page opens as that of training runs."""
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

    with _alone_at(uri):
        return MlflowClient(tracking_uri=uri)


@contextmanager
def _alone_at(uri: str) -> Iterator[None]:
    """Wait until no other process here opens a sqlite file of the same folder: MLflow makes the tables of a new file at
    the first contact, and fails where another process does so meanwhile.
    """
    path = uri.removeprefix("sqlite:///")
    with ExitStack() as stack:
        if path != uri:
            with suppress(OSError):  # no folder, which MLflow reports, or a file system without locks
                # Not the file itself: closing it would release SQLite's own locks of this process.
                folder = os.open(Path(path).parent, os.O_RDONLY)
                stack.callback(os.close, folder)
                fcntl.flock(folder, fcntl.LOCK_EX)
        yield


def ping(config: TrackingConfig) -> None:
    """Check that the server answers.

    Raises:
        InputError: it does not answer.
    """
    try:
        experiment(make_client(resolve_uri(config.address)), config.experiment_name)
    except InputError:
        raise
    except Exception as error:
        raise no_answer(config.address, error) from error


def find_or_create_run(client: Any, config: TrackingConfig, folder: Path, started: float) -> Any:
    """The MLflow run of a folder; `started` in seconds since 1970."""
    number = _experiment_made(client, config)
    key = run_key(folder)
    if runs := client.search_runs([number], f"tags.zip_ray_run_key = '{key}'"):
        return runs[0]
    from mlflow.tracking.context.registry import resolve_tags  # user, source, git commit: MLflow's own columns

    tags = resolve_tags({"zip_ray_run_key": key, "mlflow.runName": config.name or folder.name, "host": gethostname()})
    parent = {"mlflow.parentRunId": config.parent} if config.parent else {}
    return client.create_run(number, start_time=int(1000 * started), tags={**tags, **parent})


def experiment(client: Any, name: str) -> str | None:
    """Id of an experiment; None if there is none.

    Raises:
        InputError: it is deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        number = found.experiment_id
        raise InputError(
            f"tracking.experiment: '{name}' is deleted in MLflow: give another name, or restore it with `mlflow "
            f"experiments restore --experiment-id {number}`"
        )
    return found and str(found.experiment_id)


def _experiment_made(client: Any, config: TrackingConfig) -> str:
    """Id of the experiment of a run, which is made where it is missing; another run may be making it too."""
    name = config.experiment_name
    if number := experiment(client, name):
        return number
    try:
        return str(
            client.create_experiment(
                name, artifact_location(resolve_uri(config.address)), {"mlflow.experimentKind": KIND}
            )
        )
    except Exception:
        if number := experiment(client, name):
            return number
        raise


def open_parent(folder: Path, config: TrackingConfig) -> str | None:
    """Id of the MLflow run whose parts are the runs of a suite; None, with a warning, if the server does not answer."""
    try:
        return str(
            find_or_create_run(make_client(resolve_uri(config.address)), config, folder, time.time()).info.run_id
        )
    except Exception as error:
        _log.warning("%s; runs get no parent", trouble(config.address, error))
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
        _log.warning("%s; it lacks the report", trouble(config.address, error))


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
    if path == uri or "?" in str(Path.cwd()):  # a "?" would end the path
        return uri
    return f"sqlite:///{Path(os.path.expanduser(path)).absolute()}"


def artifact_location(uri: str) -> str | None:
    """Folder of the artifacts of an sqlite store: mlruns/ beside it. None for a server, which has its own."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else (Path(path).parent / "mlruns").absolute().as_uri()


def no_answer(uri: str, error: Exception) -> InputError:
    """The error of a server that does not answer, or refuses."""
    if status := _status(uri, error):
        access = status in (401, 403)
        remedy = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to those of a user"
            if access
            else "correct the address"
        )
        return InputError(
            f"tracking.uri: '{without_secrets(uri)}' refuses with HTTP {status} ({error_line(error)}): {remedy}, or "
            "switch it off with tracking.enabled: false"
        )
    return InputError(
        f"tracking.uri: '{without_secrets(uri)}' does not answer ({error_line(error)}): start the server, correct the "
        "address, or switch it off with tracking.enabled: false"
    )


def trouble(uri: str, error: Exception) -> str:
    """What is wrong with the copy on a server, as the beginning of a warning."""
    if isinstance(error, InputError):
        return f"MLflow copy: {error_line(error)}"
    status = _status(uri, error)
    fault = f"refuses with HTTP {status}" if status else "does not answer"
    return f"MLflow at {without_secrets(uri)} {fault}: {error_line(error)}"


def _status(uri: str, error: Exception) -> int | None:
    """The number of the HTTP answer that was an error; None if there was no answer. MLflow does not always give it."""
    from mlflow.exceptions import RestException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    if told := re.search(r"failed with error code (\d+)", str(error)):
        return int(told.group(1))
    if not isinstance(error, RestException):
        return None
    with suppress(Exception):  # the server answered before, but does not any more
        path, first = "/api/2.0/mlflow/experiments/search", {"max_results": 1}
        answer = http_request(get_default_host_creds(uri), path, "GET", params=first, raise_on_status=False)
        return int(answer.status_code) if answer.status_code >= 400 else None
    return None


def error_line(error: Exception) -> str:
    """An error as one line, without user names and passwords."""
    return str(without_secrets(one_line(error)))
