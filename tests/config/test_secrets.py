"""Secrets: where they are found, and that no file of a run contains one."""

from pathlib import Path

import pytest

from tests.support.small_runs import make_config, open_pool
from zip_ray.cli.settings import of_run
from zip_ray.comparison.suite import dump, load_suite
from zip_ray.config.secrets import without_secrets
from zip_ray.config.tracking import TrackingConfig
from zip_ray.config.writing import to_yaml
from zip_ray.runs.lifecycle import resume, tune

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:s3cr3t@host/path", "https://host/path"),
        ("https://s3cr3t@host", "https://host"),
        ("postgresql+psycopg2://me:s3cr3t@host/db", "postgresql+psycopg2://host/db"),
        ("s3://KEY:s3cr3t@bucket/a", "s3://bucket/a"),
        ("https:/me:s3cr3t@host/a", "https:/host/a"),
        ("cannot reach http://a:s3cr3t@b/c: (http://d:s3cr3t@e)", "cannot reach http://b/c: (http://e)"),
        ("https://host/a?x=1&X-Amz-Signature=s3cr3t&y=2", "https://host/a?x=1&X-Amz-Signature=***&y=2"),
        ("https://host/a?api_key=s3cr3t", "https://host/a?api_key=***"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("a photo of a {}, key=1: me@home", "a photo of a {}, key=1: me@home"),
    ],
)
def test_what_is_secret_in_an_address(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets({"a": [text], "b": (1, text)}) == {"a": [shown], "b": (1, shown)}


def test_fields_that_are_secret_by_their_names() -> None:
    given = {"token": SECRET, "headers": {"Authorization": SECRET}, "api_key": SECRET, "tokens": 4, "token_std": 0.5}
    hidden = {"token": "***", "headers": {"Authorization": "***"}, "api_key": "***", "tokens": 4, "token_std": 0.5}
    assert without_secrets(given) == hidden


def test_nothing_that_a_run_writes_holds_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fsspec = pytest.importorskip("fsspec")
    folder = tmp_path / "run"
    address = f"http://me:{SECRET}@127.0.0.1:9"
    remote = f"memory://me:{SECRET}@{tmp_path.name}"
    task = {"name": "coop:dtd", "root": f"https://me:{SECRET}@host/data"}
    config = make_config(folder, tracking={"uri": address}, task=task)
    config = config.model_copy(update={"output": config.output.model_copy(update={"remote": remote})})
    assert tune(config, open_pool, lambda: False).outcome.finished
    again = of_run(folder, {"budget": {"queries": 24}, "tracking": {"uri": address}})
    resume(folder, again, open_pool, lambda: False)
    storage = fsspec.filesystem("memory")
    copied = [name for name in storage.find("/") if tmp_path.name in name]
    written = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.jsonl", "tuned_prompt.json"} <= {Path(name).name for name in written}
    assert {"config.yaml", "metrics.jsonl"} <= {Path(name).name for name in copied}
    for name, data in {**written, **{name: storage.cat_file(name) for name in copied}}.items():
        assert SECRET.encode() not in data, name
    assert SECRET not in caplog.text
    assert SECRET not in to_yaml(config)


def test_a_suite_hides_them_too(tmp_path: Path) -> None:
    uri = f"https://me:{SECRET}@host"
    text = f"name: s\nmethods: {{a: {{}}}}\ntasks: [digits]\nseeds: [1]\nbase: {{tracking: {{uri: '{uri}'}}}}\n"
    (tmp_path / "s.yaml").write_text(text)
    suite = load_suite(tmp_path / "s.yaml")
    assert suite.base["tracking"]["uri"] == uri
    assert SECRET not in dump(suite).decode()


def test_mlflow_is_where_its_own_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (TrackingConfig().address, TrackingConfig().experiment_name) == ("sqlite:///mlflow.db", "zip-ray")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert (TrackingConfig().address, TrackingConfig().experiment_name) == ("http://server:5000", "mine")
    given = TrackingConfig(uri="http://other", experiment="given")
    assert (given.address, given.experiment_name) == ("http://other", "given")
