"""Dockerfile, its scripts and .dockerignore, as far as they run without a container daemon."""

import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ENTRYPOINT = ROOT / "container" / "entrypoint.sh"
INSTALL = ROOT / "container" / "install.sh"
INSTRUCTIONS = re.findall(r"^([A-Z]+) (.*)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
COPIED = [source for name, rest in INSTRUCTIONS if name == "COPY" for source in rest.split()[:-1]]
ALLOWED = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def play(folder: Path, *names: str) -> dict[str, str]:
    """Create commands that print their calls; the environment, without a home, has them first on PATH."""
    for name in names:
        (folder / name).write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
        (folder / name).chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if key not in ("HOME", "USER")}
    return {**kept, "PATH": f"{folder}:{os.environ['PATH']}"}


def call(script: Path, folder: Path, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = play(folder, "ray", "zip-ray", "pip", "python")
    command = ["sh", str(script), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_all_that_is_copied_exists_and_is_not_ignored() -> None:
    assert COPIED
    for source in COPIED:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in ALLOWED), source
    assert all((ROOT / name).exists() for name in ALLOWED), "what is let through is there"


def test_what_is_copied_is_enough_to_install_and_import(tmp_path: Path) -> None:
    """In its own folder with only the copied files: metadata, package data through the links, the command."""
    for source in COPIED:
        if "/" not in source:
            subprocess.run(["cp", "-a", str(ROOT / source), str(tmp_path)], check=True)
    listed = (ROOT / "pyproject.toml").read_text()
    for named in ("README.md", "LICENSE", "NOTICES.md"):
        assert named in listed
        assert (tmp_path / named).exists()
    command = [str(ROOT / ".venv/bin/python"), "-P", "-c"]
    code = "import zip_ray, zip_ray.files as f; print(zip_ray.__file__, f.packaged('configs/quickstart.yaml').exists())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*command, code], cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "zip_ray" / "__init__.py"), "True"]


def test_the_user_is_no_root_and_what_it_writes_has_a_place() -> None:
    last = dict(INSTRUCTIONS)
    assert last["USER"] == "10001:10001"
    assert "HOME=/tmp" in last["ENV"]
    assert "LOGNAME=" in last["ENV"], "getpass finds no name of a user that has none"
    assert last["WORKDIR"] == "/runs"
    copied = " ".join(rest for name, rest in INSTRUCTIONS if name == "COPY")
    for script in ("install.sh", "entrypoint.sh"):
        assert f"container/{script}" in copied
    assert "/usr/local/bin/entrypoint.sh" in last["ENTRYPOINT"]


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["head", "--num-gpus=0"], "ray start --head --port=6379 --dashboard-host=0.0.0.0 --block --num-gpus=0"),
        (["worker", "head:6379", "--num-cpus=2"], "ray start --address=head:6379 --block --num-cpus=2"),
        (["job", "--address", "http://head:8265"], "ray job submit --address http://head:8265"),
        (["tune", "quickstart"], "zip-ray tune quickstart"),
        (["--help"], "zip-ray --help"),
        (["python", "/zip-ray/run.py", "tune"], "python /zip-ray/run.py tune"),
    ],
)
def test_what_a_container_does(tmp_path: Path, arguments: list[str], runs: str) -> None:
    done = call(ENTRYPOINT, tmp_path, *arguments)
    assert (done.returncode, done.stdout.strip()) == (0, runs), done.stderr


def test_kubernetes_own_shell_runs_as_it_is(tmp_path: Path) -> None:
    done = call(ENTRYPOINT, tmp_path, "/bin/sh", "-c", "ray start --block")
    assert done.stdout.strip() == "ray start --block"


def test_a_worker_without_a_head_is_refused(tmp_path: Path) -> None:
    done = call(ENTRYPOINT, tmp_path, "worker")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: worker: no address")


def test_install_takes_the_locked_versions(tmp_path: Path) -> None:
    """For a CPU, torch comes from its own index first, in the versions of constraints.txt."""
    own = "pip install --no-cache-dir -c constraints.txt -e ."
    assert call(INSTALL, tmp_path, "gpu", "").stdout.splitlines() == [own]
    first, second = call(INSTALL, tmp_path, "cpu", "INDEX").stdout.splitlines()
    assert first.startswith("pip install --no-cache-dir --index-url INDEX -r ")
    assert second == own


@pytest.mark.parametrize(
    ("arguments", "said"), [(["tpu"], "DEVICE is 'tpu'"), (["cpu", ""], "TORCH_CPU_INDEX is empty")]
)
def test_install_refuses(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = call(INSTALL, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
