"""Parsing of a command line: the parser finds the positional, and options override the file."""

from itertools import chain, permutations
from pathlib import Path

import pytest

from tests.support.suite_files import suite_file
from zip_ray.cli import settings
from zip_ray.cli.commands import COMMANDS
from zip_ray.cli.main import bound, main
from zip_ray.config.reading import validate
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
"""By command: its positionals, and options of any kind of value."""


def test_every_command_is_here() -> None:
    assert PLACES.keys() == COMMANDS.keys()


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
    """Which of them it is decides afterwards."""
    optimizer = of("quickstart", "--method", method, f"--optimizer.{option}", word).optimizer
    assert str(getattr(optimizer, option.replace("-", "_"))) == word


@pytest.mark.parametrize("name", PLACES)
def test_options_may_stand_before_behind_and_between_the_positionals(name: str) -> None:
    positionals, options = PLACES[name]
    first = bound(name, [*positionals, *chain(*options)])
    assert [str(first[key]) for key in list(first)[: len(positionals)]] == positionals
    for order in permutations([*([one] for one in positionals), *options]):
        if [one for one in order if one[0] in positionals] != [[one] for one in positionals]:
            continue  # positionals keep their own order
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
