"""Invalid input: one line with the fault and its remedy; nothing is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import HANG_SECONDS
from zip_ray.cli.main import main

IN_PROCESS = ["--cluster.pool=in-process"]
QUICK = str(ROOT / "configs" / "methods" / "zip-tuned.yaml")
SMOKE = str(ROOT / "configs" / "suites" / "smoke.yaml")


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "nope.yaml"], "nope.yaml: No such file"),
        (
            ["tune", "unknown_key.yaml"],
            "unknown_key.yaml:1: optimizer.lr: unknown key; known with optimizer.method gauss-newton: method,",
        ),
        (["tune", "method.yaml"], "method.yaml:1: optimizer.method: 'adam': choose gauss-newton, zip, spsa, spsa-gc,"),
        (["tune", "type.yaml"], "type.yaml:1: task.shots: 'many': Input should be a valid integer"),
        (["tune", "word.yaml"], "error: word.yaml:1: optimizer: 'zip': Input should be a mapping of fields\n"),
        (
            ["tune", QUICK, "--cluster.actors=two"],
            "error: cluster.actors: 'two': Input should be a valid integer or a list or 'auto' or 'per-gpu'\n",
        ),
        (["tune", "list.yaml"], "list.yaml: holds a list; a config is a mapping"),
        (["tune", "broken.yaml"], "broken.yaml:1: not YAML"),
        (
            ["tune", QUICK, "--budget.queries=-5"],
            "error: budget.queries: -5: Input should be greater than or equal to 1",
        ),
        (["tune", QUICK, "--budget.queries=many"], "error: --budget.queries: give INT (see zip-ray tune --help)"),
        (["tune", QUICK, "--cluster.actors", "4", "2"], "error: cluster: actors is [4, 2]: give the minimum, then"),
        (
            ["tune", QUICK, "--budget.querys=9"],
            "error: --budget.querys: not an option of `zip-ray tune`: did you mean --budget.queries?",
        ),
        (["tune", QUICK, "--no-tracking.enabled"], "did you mean --tracking.no-enabled?"),
        (["tune", SMOKE], "smoke.yaml: 'methods' is of a suite, not of one run: give it to `zip-ray compare`"),
        (
            ["compare", QUICK],
            "zip-tuned.yaml: not a suite, it has no 'methods': give a config of one run to `zip-ray tune`",
        ),
        (
            ["tune", QUICK, "--budget.queries=3", "--optimizer.pairs-per-step=5"],
            "budget.queries is 3, less than one step: give at least 10",
        ),
        (["tune", QUICK, "--optimizer.foo=3"], "--optimizer.foo: not an option of `zip-ray tune`"),
        (["tune", QUICK, *IN_PROCESS, "--task.name=nope"], "task.name: 'nope' is unknown: choose digits"),
        (["tune", QUICK, *IN_PROCESS, "--task.shots=90"], "task.shots: 90 for training and 4 for validation"),
        (["tune", QUICK, *IN_PROCESS, "--model.name=local-dir:x"], "model.name: 'local-dir:x': no open_clip_config"),
        (["tune", QUICK, *IN_PROCESS, "--prompt.init=random", "--prompt.tokens=30"], "the model takes 32"),
        (["tune", QUICK, *IN_PROCESS, "--output.dir=taken"], "output.dir: 'taken' exists: choose another"),
        (["tune", QUICK, "--task.name=folder", "--task.root=none", *IN_PROCESS], "task.root: 'none' is not a folder"),
        (["tune", QUICK, *IN_PROCESS, "--task.name=nope", "--model.name=local-dir:x"], "task.name: 'nope' is unknown"),
        (["tune", QUICK, "--cluster.address=127.0.0.1:1"], "cluster.address: no Ray cluster answers at '127.0.0.1:1'"),
        (["resume", "taken"], "taken: no config.yaml: give the folder of a run that `zip-ray tune` made"),
        (["status", "taken"], "taken: no config.yaml: give the folder of a run that `zip-ray tune` made"),
        (["report", "taken"], "taken: no suite.yaml: give the folder of a suite that `zip-ray compare` ran"),
        (["evaluate", "none"], "none: no tuned prompt"),
        (["classify", "damaged.safetensors", "."], "damaged.safetensors: not a tuned prompt"),
        (["replay", "taken"], "taken: no config.yaml: give the folder of a run"),
        (["tune"], "CONFIG: missing: YAML file, or the name of a config that ships"),
        (["tune", "-v"], "error: CONFIG: missing (see zip-ray tune --help)"),
        (["tune", "--seed", "2"], "CONFIG: missing: YAML file"),
        (["tune", QUICK, SMOKE], "Unrecognized options: "),
        (["tune", QUICK, "--method"], "--optimizer.method: give gauss-newton|zip|spsa|"),
        (["tune", QUICK, "--method", "adam"], "error: optimizer.method: 'adam': choose gauss-newton, zip, spsa,"),
        (["tune", QUICK, "--optimizer.a", "0.7"], "error: optimizer.a: this is now optimizer.step_size"),
        (["tune", "--cluster.no-cache", QUICK], "error: cluster.cache: this is now execution.cache"),
        (["resume", "taken", "--method=zip"], "--method: not an option of `zip-ray resume`: it takes budget, cluster,"),
        (["evaluate", "--task.views", "2", "taken"], "--task.views: not an option of `zip-ray evaluate`: it has no"),
        (["report", "--seed", "1", "taken"], "--seed: not an option of `zip-ray report`: see zip-ray report --help"),
        (
            ["tune", QUICK, "--optimizer.population=99"],
            "error: optimizer.population: has no effect with optimizer.method zip: it belongs to cma-es",
        ),
        (["tune", "--prompt.encoder=foo", QUICK], "error: prompt.encoder: has no effect with prompt.space low-rank"),
        (["tune", QUICK, *IN_PROCESS, "--cluster.actors=2"], "error: cluster.actors: has no effect with cluster.pool"),
        (["tune", "idle.yaml"], "error: idle.yaml: execution.in_flight: has no effect with execution.mode sync"),
        (
            ["compare", SMOKE, *IN_PROCESS, "--cluster.actors=2"],
            "cluster.actors: has no effect with cluster.pool in-pro",
        ),
        (["tune", "typo.yaml"], "error: typo.yaml:1: optimzer: unknown key; known here: seed, task, model, prompt,"),
        (["compare", "typo_suite.yaml", "--dry-run"], "optimzer: unknown key; known here: seed, task, model, prompt,"),
        (["frobnicate"], "'frobnicate' is not a command: choose tune, resume,"),
        (["tun", QUICK], "error: 'tun' is not a command: did you mean zip-ray tune?"),
        (["config", "shw"], "error: 'config' is not a command: did you mean zip-ray config show?"),
        (["config"], "error: 'config' is not a command: did you mean zip-ray configs?"),
        (["tune", "quikstart"], "error: quikstart: No such file or directory; did you mean quickstart?"),
        (["tune", "taken"], "for a folder of images: zip-ray tune folder --task.root taken"),
        (["tune", "digits"], "it is a task, not a config: zip-ray tune quickstart --task.name digits"),
        (["evaluate", "taken", "--output"], "error: --output: missing: give a value (see zip-ray evaluate --help)"),
        (
            ["classify", "taken", ".", "--format=xml"],
            "error: --format: 'xml': choose csv, jsonl (see zip-ray classify --help)",
        ),
        (["tune", QUICK, *IN_PROCESS, "--model.name=ViT-B-99"], "'ViT-B-99' is unknown to open_clip: give ViT-B-"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "unknown_key.yaml").write_text("optimizer: {lr: 3}")
    (tmp_path / "typo.yaml").write_text("optimzer: {method: zip}")
    suite = "{name: typo, tasks: [digits], methods: {one: {file: methods/zip, optimzer: {rate: 3}}}}"
    (tmp_path / "typo_suite.yaml").write_text(suite)
    (tmp_path / "method.yaml").write_text("optimizer: {method: adam}")
    (tmp_path / "type.yaml").write_text("task: {shots: many}")
    (tmp_path / "idle.yaml").write_text("execution: {in_flight: 3}")
    (tmp_path / "word.yaml").write_text("optimizer: zip")
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10" + bytes(40))
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zip_ray.cli.live_view.LINE_SECONDS", HANG_SECONDS)  # no line of progress on a slow machine
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    _, said = capsys.readouterr()
    assert message in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before, "nothing is half written"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_line_is_the_same_in_any_encoding(encoding: str) -> None:
    """The parser frames its messages with characters that a terminal may lack."""
    command = [sys.executable, str(ROOT / "run.py"), "tune", QUICK, "--budget.queries=many"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: --budget.queries: give INT (see zip-ray tune --help)\n")
