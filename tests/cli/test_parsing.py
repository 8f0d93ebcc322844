"""Parsing of a command line: the parser finds the positional, and options override the file."""

import re
import subprocess
import warnings
from itertools import chain, permutations
from pathlib import Path

import pytest

from tests.support.command_line import command
from tests.support.suite_files import suite_file
from zip_ray import __version__
from zip_ray.cli import settings
from zip_ray.cli.commands import COMMANDS
from zip_ray.cli.main import bound, main
from zip_ray.config.reading import load_config, validate
from zip_ray.config.shipped import shipped_configs
from zip_ray.config.tree import Config
from zip_ray.runs.folder import write_config

PLACES = {
    "tune": (["c.yaml"], [["--budget.queries", "30"], ["--cluster.actors", "1", "8"], ["--tracking.no-enabled"]]),
    "resume": (["run"], [["--budget.queries", "60"], ["--cluster.actors", "3"]]),
    "status": (["run"], []),
    "evaluate": (["run"], [["--seed", "1"], ["--task.name", "letter"]]),
    "classify": (["run", "images"], [["--classes", "cat"], ["--classes", "a dog"]]),
    "export": (["run", "weights.npz"], []),
    "doctor": (["c.yaml"], [["--method", "spsa"], ["--execution.split", "2", "3"]]),
    "compare": (["s.yaml"], [["--output", "o"], ["--cluster.pool", "in-process"], ["--budget.seconds", "3"]]),
    "report": (["o"], []),
    "replay": (["run"], [["--tracking.uri", "sqlite:///x.db"]]),
    "configs": ([], []),
    "config show": (
        ["c.yaml"],
        [["--execution.no-cache"], ["--optimizer.method=spsa"], ["--task.crop-scale", "0.1", "1"]],
    ),
}
"""By command: its positionals, and options with every kind of value."""


def test_every_command_is_here() -> None:
    assert PLACES.keys() == COMMANDS.keys()


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"zip-ray {__version__}\n"


@pytest.mark.parametrize(
    ("name", "usage"), [("tune", "tune CONFIG [OPTIONS]"), ("doctor", "doctor [CONFIG] [OPTIONS]")]
)
def test_help_marks_a_positional_that_may_be_left_out(
    name: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: zip-ray {usage}\n")


def test_help_with_an_option_of_ones_own_without_a_description(tmp_path: Path) -> None:
    """In a process of its own, since a class that was imported once has options in all later help."""
    source = (
        "from zip_ray.optimizers.base import MethodOptions, Optimizer\n"
        "class Bare(Optimizer):\n"
        "    class Options(MethodOptions):\n"
        "        queries_per_ask = 2\n"
        "        undescribed: float = 0.5\n"
    )
    (tmp_path / "bare_method.py").write_text(source)
    line = command("tune", "quickstart", "--method=bare_method:Bare", "--help")
    page = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert re.search(r"\noptimizer\n", page)
    assert re.search(r"--optimizer.undescribed NUMBER +\[0.5\]\n", page)


def test_configs_are_named_with_their_whole_purpose_and_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {*shipped_configs()}
    assert not any(line.endswith("…") for line in lines)
    for name, path in shipped_configs().items():
        assert name.startswith("suites/") or load_config(path)


def test_warnings_are_one_line_without_source_code() -> None:
    assert main(["--version"]) == 0
    assert warnings.formatwarning("expect less", UserWarning, "some/module.py", 3) == "warning: expect less\n"


@pytest.mark.parametrize(
    "chosen", [(), ("--method=cma-es",), ("--method=zip", "--execution.mode=async", "--prompt.space=tokens")]
)
def test_help_fits_two_screens_and_shows_what_applies(chosen: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    assert main(["tune", *chosen, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 115
    assert max(map(len, lines)) <= 100
    assert any("--execution.in-flight" in line for line in lines) == ("--execution.mode=async" in chosen)
    assert any("--optimizer.population" in line for line in lines) == ("--method=cma-es" in chosen)


@pytest.mark.parametrize(
    ("method", "option", "word"),
    [("zip", "perturbation-scale", "auto"), ("gauss-newton", "perturbation-scale", "0.5"), ("zip", "loss", "focal")],
)
def test_an_option_of_several_methods_takes_what_any_of_them_does(method: str, option: str, word: str) -> None:
    """Whether the chosen method takes the option is checked later."""
    optimizer = of("quickstart", "--method", method, f"--optimizer.{option}", word).optimizer
    assert str(getattr(optimizer, option.replace("-", "_"))) == word


@pytest.mark.parametrize("name", PLACES)
def test_options_may_stand_before_behind_and_between_the_positionals(name: str) -> None:
    positionals, options = PLACES[name]
    first = bound(name, [*positionals, *chain(*options)])
    assert [str(first[key]) for key in list(first)[: len(positionals)]] == positionals
    for order in permutations([*([one] for one in positionals), *options]):
        if [one for one in order if one[0] in positionals] != [[one] for one in positionals]:
            continue  # positionals keep their order
        found = bound(name, [*chain(*order)])
        assert {key: sorted(value) if key == "classes" else value for key, value in found.items()} == {
            key: sorted(value) if key == "classes" else value for key, value in first.items()
        }


def test_what_is_not_given_is_not_there() -> None:
    given = bound("tune", ["c.yaml", "--budget.queries", "None", "--prompt.no-diagonal"])["given"]
    assert {section: fields for section, fields in given.items() if fields} == {
        "budget": {"queries": None},
        "prompt": {"diagonal": False},
    }


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    text = """
task: {name: texture}
optimizer: {method: random-search, points: 4}
prompt: {init: template, rank: 3}
cluster: {actors: 3}
tracking: {uri: x}
"""
    Path("c.yaml").write_text(text)
    return "c.yaml"


def of(*line: str) -> Config:
    return settings.of_file(**bound("tune", [*line]))


def test_the_command_line_changes_what_the_file_says(file: str) -> None:
    config = of("--optimizer.points", "9", file, "--task.shots=2")
    assert (config.optimizer.method, config.optimizer.points) == ("random-search", 9)
    assert (config.task.name, config.task.shots, config.prompt.rank) == ("texture", 2, 3)


def test_another_method_has_its_own_defaults(file: str) -> None:
    assert of(file, "--method", "gauss-newton").optimizer == Config().optimizer
    assert of(file, "--method", "one-sided").optimizer.points == 5
    assert of(file, "--method", "random-search").optimizer.points == 4, "the file's own"
    space = of(file, "--prompt.space", "full", "--prompt.init", "random").prompt
    assert space == validate({"prompt": {"space": "full", "init": "random"}}, "x").prompt


def test_a_choice_of_the_command_line_leaves_out_what_the_file_says_for_the_alternative(file: str) -> None:
    config = of(file, "--cluster.pool", "in-process", "--tracking.no-enabled")
    assert config.cluster == validate({"cluster": {"pool": "in-process"}}, "x").cluster
    assert config.tracking.uri == Config().tracking.uri


def test_home_is_read_in_any_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("seed: 5")
    assert main(["config", "show", "--output.dir=~/o", "~/c.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "seed: 5 # default 1" in shown
    assert f"  dir: {tmp_path}/o # default null" in shown


def test_a_run_goes_on_with_its_own_config(tmp_path: Path) -> None:
    write_config(tmp_path, validate({"task": {"name": "letter"}, "cluster": {"actors": 3}}, "x"))
    config = settings.of_run(tmp_path, {"budget": {"queries": 60}, "cluster": {"pool": "in-process"}})
    assert (config.task.name, config.budget.queries, config.cluster.pool) == ("letter", 60, "in-process")


def test_a_prompt_is_tested_on_its_own_task_or_on_other_data(tmp_path: Path) -> None:
    task = {"name": "folder", "root": str(tmp_path), "template": "a {}.", "views": 3}
    write_config(tmp_path, validate({"seed": 7, "task": task, "optimizer": {"method": "spsa"}}, "x"))
    own = settings.of_prompt(tmp_path / "tuned_prompt.safetensors", {})
    assert (own.seed, own.task.name, own.task.template) == (7, "folder", "a {}.")
    other = settings.of_prompt(tmp_path, {"task": {"name": "letter"}, "seed": 2})
    assert (other.seed, other.task.name, other.task.root, other.task.template) == (2, "letter", None, None)


def test_a_suite_shows_what_its_runs_have_in_common(tmp_path: Path) -> None:
    path = tmp_path / suite_file(tmp_path)
    assert settings.of_suite(str(path), {}).budget.queries == 20
    assert settings.of_suite(str(path), {"budget": {"queries": 10}}).budget.queries == 10
