"""Ray jobs from a clone, on a real head with a dashboard where nothing is installed: submitted, followed, stopped and
resumed; output that would be lost with the job is refused."""

import contextlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from tests.support.clone import clone
from tests.support.command_line import run, steps_done
from tests.support.paths import ROOT
from tests.support.processes import wait_for
from zip_ray.actors.jobs import require_lasting
from zip_ray.cli.main import main
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.runs.checkpoint import load_checkpoint

QUERIES = 1000
"""Enough queries for the run to be under way when it is stopped."""
TUNE = (
    *("tune", "configs/methods/zip-tuned.yaml", "--budget.queries", str(QUERIES), "--validation.every-queries", "500"),
    *("--execution.threads", "1", "--tracking.no-enabled", "--output.checkpoint-every-steps", "1"),
)
ONE_ACTOR = ("--cluster.actors", "1")


@dataclass
class Jobs:
    """A user in a clone of the project."""

    head: str
    project: Path

    def begin(self, *command: str, name: str) -> JobSubmissionClient:
        """Submit a job without waiting, as `ray job submit --no-wait` but without the program's start-up time.

        Returns:
            What `ray job stop` and `ray job status` call.
        """
        client = JobSubmissionClient(self.head)
        line = shlex.join(["python", "run.py", *command])
        client.submit_job(entrypoint=line, submission_id=name, runtime_env={"working_dir": str(self.project)})
        return client

    def submit(self, *command: str, name: str) -> tuple[JobStatus, str]:
        """Submit a job, wait for its end, and return how it ended and what it printed."""
        client = self.begin(*command, name=name)
        wait_for(lambda: client.get_job_status(name).is_terminal())
        return client.get_job_status(name), client.get_job_logs(name)


@pytest.fixture(scope="module")
def jobs(job_head: str, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(job_head, clone(tmp_path_factory.mktemp("clone")))


def test_submit_stop_resume_gives_the_undisturbed_result(jobs: Jobs, tmp_path: Path) -> None:
    """Resumed without Ray; test_readme.py resumes in a job."""
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    run(jobs.project, *TUNE, "--cluster.pool", "in-process", "--output.dir", str(straight))
    client = jobs.begin(*TUNE, *ONE_ACTOR, "--output.dir", str(cut), name="cut")
    wait_for(lambda: steps_done(cut) >= 3)
    client.stop_job("cut")
    wait_for(lambda: client.get_job_status("cut").is_terminal())
    assert "stopped: on request" in client.get_job_logs("cut")
    stopped = load_checkpoint(cut / "checkpoint.safetensors")
    assert 0 < stopped.account.charged < QUERIES

    assert "tuned prompt" in run(jobs.project, "resume", str(cut), "--cluster.pool", "in-process").stdout
    ends = [load_checkpoint(folder / "checkpoint.safetensors") for folder in (straight, cut)]
    np.testing.assert_array_equal(ends[0].optimizer.w, ends[1].optimizer.w)
    assert ends[0].account.charged == ends[1].account.charged == QUERIES
    assert json.loads((cut / "tuned_prompt.json").read_text())["queries"] == QUERIES


def test_outputs_that_the_job_would_take_with_it_are_refused(jobs: Jobs) -> None:
    status, log = jobs.submit(*TUNE, name="fleeting")
    assert status is JobStatus.FAILED
    assert "error: output.dir: 'runs/...' lies in the job's working directory" in log


@pytest.mark.parametrize(
    ("folder", "uri", "field"),
    [
        (None, "http://127.0.0.1:5000", "output.dir"),
        (Path("runs/first"), "http://127.0.0.1:5000", "output.dir"),
        (Path("/elsewhere/first"), "sqlite:///mlflow.db", "tracking.uri"),
    ],
)
def test_fleeting_paths(monkeypatch: pytest.MonkeyPatch, folder: Path | None, uri: str, field: str) -> None:
    config = validate({"tracking": {"uri": uri}}, "test")
    require_lasting(config, folder)  # outside a job, anything is allowed
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(InputError, match=field):
        require_lasting(config, folder)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["tune", "configs/methods/zip-tuned.yaml", "--cluster.pool=in-process"], "output.dir"),
        (["compare", "configs/suites/smoke.yaml"], "output"),
    ],
)
def test_commands_refuse_fleeting_folders_before_they_begin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], option: str
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(SystemExit):
        main(command)
    said = capsys.readouterr().err
    assert said.startswith(f"error: {option}: 'runs/")
    assert f"such as --{option} /shared" in said
    assert ("--output.remote" in said) == (option == "output.dir")


@pytest.mark.parametrize(("brought", "lasts"), [(True, False), (False, True)])
def test_a_job_without_a_working_directory_of_its_own_may_write_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: bool, lasts: bool
) -> None:
    """As in a container whose working directory is /, or on a shared disk."""
    monkeypatch.chdir(tmp_path)
    with_it = {"working_dir": "gcs://_ray_pkg_0.zip"} if brought else {}
    job = {"runtime_env": {"env_vars": {}, **with_it}, "metadata": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    config = validate({"tracking": {"enabled": False}}, "test")
    with contextlib.nullcontext() if lasts else pytest.raises(InputError, match=r"output.dir: .* is deleted with it"):
        require_lasting(config, tmp_path / "runs" / "first")
    with pytest.raises(InputError, match=r"output.dir: 'runs/first'"):
        require_lasting(config, Path("runs/first"))


def test_lasting_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    require_lasting(validate({"tracking": {"uri": "sqlite:////elsewhere/mlflow.db"}}, "test"), Path("/elsewhere/run"))
    require_lasting(
        Config().model_copy(update={"tracking": Config().tracking.model_copy(update={"enabled": False})}), Path("/a")
    )


def test_a_copy_elsewhere_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    config = validate({"output": {"remote": "s3://bucket/run"}, "tracking": {"enabled": False}}, "test")
    require_lasting(config, Path("runs/first"))


@pytest.mark.parametrize("folder", [Path("runs/first"), Path("/elsewhere/first")])
@pytest.mark.parametrize(
    ("uri", "lasts"),
    [
        ("runs/copy", False),
        ("file://runs/copy", False),
        ("file:runs/copy", False),
        ("local://runs/copy", False),
        ("HERE/copy", False),
        ("file://HERE/copy", False),
        ("memory://copy", False),
        ("/elsewhere/copy", True),
        ("file:///elsewhere/copy", True),
        ("local:///elsewhere/copy", True),
        ("gs://bucket/runs/copy", True),
    ],
)
def test_fleeting_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, uri: str, lasts: bool) -> None:
    """Wherever the run folder is: a requested copy must outlive the job."""
    monkeypatch.chdir(tmp_path)
    uri = uri.replace("HERE", str(tmp_path))
    config = validate({"output": {"remote": uri}, "tracking": {"enabled": False}}, "test")
    require_lasting(config, folder)  # outside a job, anything is allowed
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {"working_dir": "gcs://pkg.zip"}}))
    refused = pytest.raises(InputError, match=f"^output.remote: '{re.escape(uri)}' .* URI of lasting storage.*disk")
    with contextlib.nullcontext() if lasts else refused:
        require_lasting(config, folder)
