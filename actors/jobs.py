"""What is different inside a Ray job: its working directory is a copy that Ray deletes."""

import json
import os
import re
from pathlib import Path

from zip_ray.config.tree import Config
from zip_ray.errors import InputError

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable in which Ray passes the runtime environment to the entry point of a job."""
RUN_FOLDER = "output.dir"


def in_job() -> bool:
    """Whether this process is the entry point of a Ray job."""
    return JOB in os.environ


def require_lasting(config: Config, folder: Path | None, option: str = RUN_FOLDER) -> None:
    """Refuse outputs that would be deleted with the job.

    Args:
        config: the run, or what the runs of a suite have in common.
        folder: of the run or the suite, if one is named.
        option: the option that names it. Only a run's folder may have a copy elsewhere instead.

    Raises:
        InputError: this is a job, and an output is given relative to its working directory, or lies in the one that
            Ray has made for it, or a copy is kept in memory.
    """
    if not in_job():
        return
    remote = config.output.remote
    if remote and _is_fleeting_copy(remote):
        raise InputError(
            f"output.remote: '{remote}' is deleted with the job: give a URI of lasting storage, such as "
            "--output.remote s3://BUCKET/runs/NAME, or an absolute path on a disk that all nodes see"
        )
    of_run = option == RUN_FOLDER
    if not (of_run and remote) and _is_fleeting(folder or Path("runs")):
        copy = ", or a copy by --output.remote s3://BUCKET/runs/NAME" if of_run else ""
        raise InputError(
            f"{option}: '{folder or 'runs/...'}' lies in the job's working directory, which is deleted with it: give "
            f"an absolute path on a disk that outlives the job, such as --{option} /shared/runs/NAME{copy}"
        )
    address = config.tracking.address
    database = address.removeprefix("sqlite:///")
    if config.tracking.enabled and database != address and _is_fleeting(Path(database)):
        raise InputError(
            f"tracking.uri: '{address}' lies in the job's working directory, which is deleted with it: give a "
            "server (http://HOST:PORT), an absolute sqlite:////PATH, or --tracking.no-enabled"
        )


def _is_fleeting(path: Path) -> bool:
    """Whether a path is relative, or lies in the working directory that was uploaded with the job."""
    path = Path(os.path.expanduser(path))
    brought = "working_dir" in (json.loads(os.environ[JOB]).get("runtime_env") or {})
    return not path.is_absolute() or (brought and path.is_relative_to(Path.cwd()))


def _is_fleeting_copy(uri: str) -> bool:
    """Whether a copy is kept in memory, or on this machine at a fleeting path; any other storage is trusted."""
    path = re.sub("^(file|local):(//)?", "", uri)  # as fsspec reads it
    return uri.startswith("memory:") or ("://" not in path and _is_fleeting(Path(path)))
