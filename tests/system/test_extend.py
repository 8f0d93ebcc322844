"""docs/guides/extend.md holds: each class runs as its commands say, from an installed wheel and on a Ray cluster."""

import json
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.ray_cluster import add_node, running_cluster
from zip_ray.runs.folder import run_tree

PAGE = (ROOT / "docs" / "guides" / "extend.md").read_text(encoding="utf-8")
MODULES = {block.splitlines()[0].removeprefix("# "): block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S)}
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
QUIET = ("--tracking.no-enabled", "--validation.every-queries=20")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds only the page's modules."""
    for name, code in MODULES.items():
        (tmp_path / name).write_text(code)
    return tmp_path


@pytest.fixture
def service() -> Iterator[str]:
    """A model behind HTTP: 64 numbers per word, and scores that are right for a context of ones."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = json.dumps(self.embed(asked) if self.path == "/embed" else self.scores(asked)).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def embed(self, words: str) -> list[list[float]]:
            return [[0.1 * len(word), *[-0.1] * 63] for word in words.split()]

        def scores(self, asked: dict) -> list:
            images, classes = np.array(asked["images"]), len(asked["classes"])
            strengths = [0.0 if isinstance(one, str) else float(np.sum(one)) for one in asked["prompts"]]
            wave = np.sin(np.add.outer(images, np.arange(classes)))
            return [(strength * wave).tolist() for strength in strengths]

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def call(program: Path, folder: Path, *arguments: str) -> str:
    """Run a program of the wheel's environment in that folder; returns its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(program), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Run a command of the installed wheel."""
    return call(installed.with_name("zip-ray"), folder, *arguments)


def test_the_page_shows_every_kind() -> None:
    assert MODULES.keys() == {"momentum.py", "shift.py", "stripes.py", "over_http.py", "test_momentum.py"}
    assert len(COMMANDS) == 4


ONE_AFTER_ANOTHER = """
import json, sys
from zip_ray.cli.main import main

for arguments in json.loads(sys.argv[1]):
    assert not main(arguments), arguments
"""


def test_its_commands_run_from_a_wheel(installed: Path, folder: Path, service: str) -> None:
    """In one process, since most of a short run's time is its imports."""
    lines = [shlex.split(line.replace("SERVICE", service)) for line in COMMANDS]
    assert {program for program, *_ in lines} == {"zip-ray"}
    commands = [[*arguments, *QUIET, "--cluster.pool=in-process"] for _, *arguments in lines]
    call(installed, folder, "-c", ONE_AFTER_ANOTHER, json.dumps(commands))
    made = list((folder / "runs").iterdir())
    assert len(made) == len(COMMANDS)
    assert all("budget" in run_tree(one) for one in made)
    run(installed, folder, "resume", "runs/momentum", "--budget.queries=40")


def test_options_of_ones_own_are_validated_and_shown(installed: Path, folder: Path) -> None:
    page = run(installed, folder, "tune", "quickstart", "--method=momentum:Momentum", "--help")
    assert re.search(r"--optimizer.friction NUMBER +Share of the velocity that a step loses \[0.1\]", page)
    command = [str(installed.with_name("zip-ray")), "tune", "quickstart", "--method=momentum:Momentum"]
    wrong = subprocess.run([*command, "--optimizer.rate=fast"], cwd=folder, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (2, "error: --optimizer.rate: give NUMBER (see zip-ray tune --help)\n")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """Address of a cluster of two nodes with one CPU each, so that two one-CPU actors use both."""
    with running_cluster(num_cpus=1) as cluster:
        add_node(cluster, num_cpus=1)
        yield str(cluster.address)


def test_they_run_on_actors_of_two_nodes_that_find_them_by_their_path(
    installed: Path, folder: Path, two_nodes: str
) -> None:
    """On a cluster joined from elsewhere: a method, a space and a task in a suite beside a built-in method."""
    base = {
        "budget": {"queries": 20},
        "validation": {"every_queries": 20},
        "cluster": {"address": two_nodes, "actors": [2, 2]},
        "tracking": {"enabled": False},
    }
    suite = {
        "name": "own",
        "shots": [2],
        "seeds": [1],
        "tasks": {"stripes": {"name": "stripes:Stripes", "noise": 0.3}},
        "methods": {
            "mine": {"optimizer": {"method": "momentum:Momentum"}, "prompt": {"space": "shift:Shift"}},
            "spsa": {"optimizer": {"method": "spsa"}},
        },
        "base": base,
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    assert "mine" in run(installed, folder, "compare", "suite.yaml", "--output=out")


def test_a_class_that_actors_cannot_import_is_named(installed: Path, folder: Path, two_nodes: str) -> None:
    code = (
        "import zip_ray\nfrom shift import Shift\n\nclass Mine(Shift):\n    pass\n\n"
        f"zip_ray.tune('quickstart', space=Mine, cluster={{'address': '{two_nodes}', 'actors': 1}})\n"
    )
    (folder / "script.py").write_text(code)
    done = subprocess.run(
        [str(installed), "script.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1
    assert "InputError: prompt.space: '__main__:Mine' cannot be imported" in done.stderr
