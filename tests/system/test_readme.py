"""README and docs hold: their commands and their Python run in order in a copy of the project."""

import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from tests.support.clone import clone, environment_without_zip_ray
from tests.support.command_line import run
from tests.support.faults import check_each
from tests.support.paths import RAY, ROOT
from tests.support.processes import free_port, wait_for
from zip_ray.config.reading import load_config
from zip_ray.config.tree import Config
from zip_ray.prompts.low_rank import LowRankOptions

PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/guides/own-images.md",
    "docs/guides/own-model.md",
    "docs/guides/compare.md",
    "docs/guides/cluster.md",
    "docs/guides/large-models.md",
    "docs/reference/python.md",
)
"""In the order in which a new user reads them, since later commands use the runs of earlier ones."""
TESTED_ELSEWHERE = {"docs/guides/extend.md": "test_extend.py"}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


COMMANDS = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
IN_PROCESS = ("--cluster.pool", "in-process")


def starts_ray(line: str) -> bool:
    """Whether a command starts its own Ray with actors."""
    return bool(re.match(r"zip-ray (tune|resume|compare) ", line)) and "--cluster.address" not in line


def shortened(line: str) -> tuple[str, ...]:
    """Options that make a command cheaper without changing its purpose."""
    if line.startswith("zip-ray compare "):
        return (*IN_PROCESS, "--budget.queries", "200")
    if " vlm-quickstart " in line:
        return (*IN_PROCESS, "--budget.queries", "40", "--task.shots", "4")
    if "--cluster.actors auto" in line:
        return ("--cluster.cpus-per-actor", "2")  # two actors on the tests' cluster instead of four
    return IN_PROCESS if starts_ray(line) else ()


INSTALLED = ("zip-ray doctor",)
"""Commands that run as a user runs them, with their own Ray, as `make quickstart` does in CI; other `zip-ray`
commands run in this process, without actors of their own."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's clone, with a folder of images in it, and the YAML files that the pages show."""
    folder = clone(tmp_path_factory.mktemp("clone"))
    for block in (block for page in PAGES for block in blocks(page, "yaml")):
        (folder / block.splitlines()[0].removeprefix("# ")).write_text(block)
    for part in ("train", "test"):
        for label, name in enumerate(("red_square", "blue_square")):
            (folder / "images" / part / name).mkdir(parents=True)
            for i in range(9):
                colour = (200 - i, 0, 0) if label == 0 else (0, 0, 200 - i)
                Image.new("RGB", (40, 40), colour).save(folder / "images" / part / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def programs(project: Path) -> Path:
    """The folder for the programs that `make install` puts into the copy's environment."""
    python = environment_without_zip_ray(project / ".venv")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python))
    subprocess.run([*pip, "install", "--no-deps", "--no-build-isolation", "--editable", str(project)], check=True)
    return python.parent


def serve(command: list[str], cwd: Path) -> None:
    """Start a serving command, wait until it responds, and stop it."""
    port = free_port()
    line = [sys.executable, "-m", *command, "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(line, cwd=cwd, start_new_session=True)
    try:
        wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5))
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
        process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that outlives the jobs."""
    return tmp_path_factory.mktemp("shared")


def test_every_fenced_command_and_snippet_is_tested() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
    fenced = {page for page in pages if re.search(r"```(bash|sh|python|console)\n", (ROOT / page).read_text("utf-8"))}
    assert fenced == {*PAGES, *TESTED_ELSEWHERE}
    assert len(COMMANDS) >= 20
    assert len(COMMANDS) == len(set(COMMANDS))
    assert all((ROOT / "tests/system" / test).is_file() for test in TESTED_ELSEWHERE.values())


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_in_their_order(
    line: str, project: Path, programs: Path, ray_cluster: str, job_head: str, shared: Path
) -> None:
    here = line.replace("HEAD:6379", ray_cluster).replace("http://HEAD:8265", job_head)
    program, *arguments = shlex.split(here.replace("/shared", str(shared)))
    if program == "mlflow":
        serve([program, *arguments], project)
    elif program == "ray" or line in INSTALLED:
        command = {"zip-ray": str(programs / "zip-ray"), "ray": str(RAY)}[program]
        done = subprocess.run([command, *arguments], cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert program == "zip-ray"
        run(project, *arguments, *shortened(line))


def test_python_after_the_commands(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("README.md", "python")
    monkeypatch.chdir(project)
    names: dict = {}
    exec(code, names)
    assert names["result"].finished
    assert names["found"].classname in names["prompt"].card.classnames
    assert (project / "digits.safetensors").is_file()


def test_the_python_page(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    names: dict = {}
    exec("\n".join(blocks("docs/reference/python.md", "python")), names)
    assert names["result"].queries == 40
    assert names["run"].finished
    assert (project / "python.npz").is_file()


def test_configs_open_with_their_command_and_are_valid() -> None:
    check_each((ROOT / "configs").glob("*.yaml"), opens_with_its_command_and_is_valid)


def opens_with_its_command_and_is_valid(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# zip-ray tune {path.stem}")
    load_config(path)


def test_the_published_setting_is_that_of_zip() -> None:
    published = load_config(ROOT / "configs" / "published.yaml")
    own = Config.model_validate({"optimizer": {"method": "zip"}})
    assert published.model_copy(update={"task": own.task}) == own  # whose images are not cropped
    assert (own.prompt, own.readout, own.validation.deploy) == (LowRankOptions(init="random"), "none", "last")


def test_pages_that_configs_and_code_name_are_there() -> None:
    files = [path for folder in ("configs", "zip_ray", "actors") for path in (ROOT / folder).rglob("*")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in (".py", ".yaml")]
    pages = {page for text in texts for page in re.findall(r"docs/[\w/.-]*\.md", text)}
    assert "docs/guides/datasets.md" in pages
    assert not [page for page in sorted(pages) if not (ROOT / page).is_file()]


def test_the_papers_tables_are_one_command(tmp_path: Path) -> None:
    """Runs every suite of the papers, even after one that fails, and reports the failure."""
    program, log = tmp_path / "bin/zip-ray", tmp_path / "log"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncase "$2" in suites/paper) exit 1;; esac\n')
    program.chmod(0o755)
    (tmp_path / "project").touch()
    done = subprocess.run(
        ["make", "paper", f"VENV={tmp_path}", "DATA=/images", "ARGS=--budget.queries 100"], cwd=ROOT, check=False
    )
    assert done.returncode != 0
    suites = sorted((ROOT / "configs/suites").glob("paper*.yaml"))
    assert sorted(log.read_text().splitlines()) == sorted(
        f"compare suites/{path.stem} --data /images --budget.queries 100" for path in suites
    )


def test_links_lead_somewhere() -> None:
    check_each([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")], links_lead_somewhere)


def links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_page_is_in_the_index() -> None:
    docs = ROOT / "docs"
    index = (docs / "index.md").read_text(encoding="utf-8")
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md") if path.name != "report.md"}
    assert pages - {"index.md"} == set(re.findall(r"\]\((?!\.\.)([^)]+)\)", index))
