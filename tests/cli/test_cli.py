"""The command line from outside: whole runs, runs that are killed, and faults of a run folder."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.support.command_line import assert_same_run, command, run, steps_done, wait_for_step
from tests.support.paths import ROOT
from tests.support.processes import HANG_SECONDS, below, is_actor, meanwhile, require_gone, wait_for
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.runs.event_log import read_record
from zip_ray.tuning.events import EndEvent, StartEvent

SMALL = [
    "--task.shots=4",
    "--budget.queries=400",
    "--validation.every-queries=100",
    "--optimizer.pairs-per-step=5",
    "--tracking.no-enabled",
]
STEPS = 40
IN_PROCESS = ["--cluster.pool=in-process"]


def tune(cwd: Path, folder: str, *arguments: str) -> Path:
    run(cwd, "tune", str(ROOT / "configs" / "methods" / "zip-tuned.yaml"), *SMALL, f"--output.dir={folder}", *arguments)
    return cwd / folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run with the in-process pool."""
    return tune(tmp_path_factory.mktemp("reference"), "run", *IN_PROCESS)


def start(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    head = command("tune", str(ROOT / "configs" / "methods" / "zip-tuned.yaml"), *SMALL, "--output.dir=run")
    return subprocess.Popen([*head, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def actors_now() -> set[int]:
    """Processes of actors of this process's cluster; the machine may run actors of others."""
    return set(filter(is_actor, below()))


def test_a_run_leaves_all_that_it_promises(reference: Path) -> None:
    names = {path.name for path in reference.iterdir()}
    assert names >= {
        "config.yaml",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "tuned_prompt.safetensors",
        "tuned_prompt.json",
        "accuracy.png",
    }
    assert not any(name.endswith(".partial") for name in names)
    events = read_record(reference / "metrics.jsonl")
    assert isinstance(events[0], StartEvent)
    assert isinstance(events[-1], EndEvent)
    assert events[-1].account.charged == 400
    card = TunedPrompt.load(reference).card
    assert json.loads((reference / "tuned_prompt.json").read_text()) == json.loads(card.model_dump_json())
    assert card.accuracies["test/tuned"] == events[-1].test_accuracy
    with Image.open(reference / "accuracy.png") as picture:
        assert picture.width > 800


def test_three_ray_actors_give_the_same_bits_though_one_is_killed(
    reference: Path, tmp_path: Path, ray_cluster: str
) -> None:
    """The test below, which kills the driver, needs only one actor."""

    def kill_one() -> None:
        wait_for(lambda: steps_done(tmp_path / "run") >= 7, every=0.01)
        wait_for(lambda: len(actors_now()) == 3)  # actors of closed pools may still be ending
        os.kill(min(actors_now()), signal.SIGKILL)

    with meanwhile(kill_one):
        tune(tmp_path, "run", f"--cluster.address={ray_cluster}", "--cluster.actors=3")
    assert_same_run(tmp_path / "run", reference)
    account = read_record(tmp_path / "run" / "metrics.jsonl")[-1].account
    assert account.charged == 400
    assert account.wasted == account.issued - 400


# Checkpoints are written at the start and every ten steps: 3 and 14 are between two of them.
@pytest.mark.parametrize(("pool", "step"), [("in-process", 3), ("ray", 14)])
def test_a_killed_driver_resumes_to_the_same_bits(
    reference: Path, tmp_path: Path, pool: str, step: int, ray_cluster: str
) -> None:
    where = IN_PROCESS if pool == "in-process" else [f"--cluster.address={ray_cluster}", "--cluster.actors=1"]
    while not (tmp_path / "run").exists() or steps_done(tmp_path / "run") == STEPS:  # kill it before the run ends
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        process = start(tmp_path, *where)
        wait_for_step(tmp_path / "run", step, process)
        actors = actors_now()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    if pool == "ray":
        require_gone(actors)
    run(tmp_path, "resume", "run")
    assert_same_run(tmp_path / "run", reference)
    account = read_record(tmp_path / "run" / "metrics.jsonl")[-1].account
    assert account.charged == 400
    assert account.issued == 400 + account.wasted
    assert account.wasted <= 10 * 10 + 10


def test_a_stopped_run_says_how_to_go_on(reference: Path, tmp_path: Path) -> None:
    process = start(tmp_path, *IN_PROCESS)
    wait_for_step(tmp_path / "run", 5, process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    suggested = out.strip().partition("continue with: ")[2]
    assert suggested.endswith(" resume run")
    _, program, *arguments = shlex.split(suggested)
    assert program == str(ROOT / "run.py"), "what the test itself has started"
    run(tmp_path, *arguments)
    assert_same_run(tmp_path / "run", reference)


def test_more_budget_on_resume(reference: Path, tmp_path: Path) -> None:
    tune(tmp_path, "run", *IN_PROCESS, "--budget.queries=200")
    run(tmp_path, "resume", "--budget.queries=400", "run")
    assert_same_run(tmp_path / "run", reference)


def test_evaluate_and_classify(reference: Path, tmp_path: Path) -> None:
    events = read_record(reference / "metrics.jsonl")
    out = run(tmp_path, "evaluate", str(reference)).stdout
    assert f"{events[-1].test_accuracy:.1%}" in out
    assert f"{events[0].zero_shot.test['plain template']:.1%}" in out
    run(tmp_path, "evaluate", str(reference), "--task.name=count", "--task.shots=1")
    assert run(tmp_path, "evaluate", "--seed=1", str(reference)).stdout == out, "the positional is found anywhere"
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    Image.new("L", (30, 20), 200).save(tmp_path / "a.jpg")
    header, *lines = run(tmp_path, "classify", str(reference), str(tmp_path)).stdout.splitlines()
    assert header == "path,classname,probability"
    assert [Path(line.split(",")[0]).name for line in lines] == ["a.jpg", "b.png"]
    for line in lines:
        _, name, probability = line.split(",")
        assert name in "0123456789"
        assert 0.1 <= float(probability) <= 1
    options = ["--classes=cat", "--classes=dog", "--top=3", "--format=jsonl"]
    row = json.loads(run(tmp_path, "classify", *options, str(reference), str(tmp_path / "b.png")).stdout)
    assert [*row] == ["path", "classname", "probability", "classname_2", "probability_2"]
    assert {row["classname"], row["classname_2"]} == {"cat", "dog"}
    assert row["probability"] >= row["probability_2"]


def test_classify_skips_names_and_counts_unreadable_images(reference: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    done = run(tmp_path, "classify", str(reference), str(tmp_path), code=1)
    assert [Path(line.split(",")[0]).name for line in done.stdout.splitlines()[1:]] == ["a.png", "c.png"]
    assert f"skipped: {tmp_path / 'b.png'}: unreadable image" in done.stderr
    assert done.stderr.endswith("1 of 3 images skipped\n")


def test_doctor(tmp_path: Path, ray_cluster: str) -> None:
    joined = run(tmp_path, "doctor", f"--cluster.address={ray_cluster}").stdout
    assert joined.count(" ok ") == 7
    bad = ["--cluster.address=127.0.0.1:1", "--tracking.uri=http://127.0.0.1:1", "--task.name=nope"]
    done = run(tmp_path, "doctor", *bad, code=1)
    assert done.stdout.count(" fault ") == 4  # the prompt cannot be checked without its task
    assert "ray start --head" in " ".join(done.stdout.split())


def test_faults_of_a_run_folder(reference: Path, tmp_path: Path) -> None:
    def spoiled(name: str) -> Path:
        shutil.copytree(reference, tmp_path / name)
        return tmp_path / name

    folder = spoiled("torn")
    (folder / "checkpoint.safetensors").write_bytes((folder / "checkpoint.safetensors").read_bytes()[:200])
    assert "damaged checkpoint" in run(tmp_path, "resume", "torn", code=2).stderr
    config = spoiled("other") / "config.yaml"
    config.write_text(config.read_text().replace("step_size: 0.01", "step_size: 0.7"))
    done = run(tmp_path, "resume", "other", code=2)
    assert "optimizer.step_size: differs from what other was started with" in done.stderr
    done = run(tmp_path, "resume", "--execution.threads=auto", str(spoiled("threads")), code=2)
    assert "execution.threads: differs from what " in done.stderr
    config = spoiled("old") / "config.yaml"
    config.write_text("optimizer: {a: 0.01}\n")
    for verb in ("resume", "status", "replay", "evaluate"):
        assert "written by an earlier version of zip-ray (schema 1," in run(tmp_path, verb, "old", code=2).stderr


def test_unreadable_image_stops_before_anything_is_written(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (8, 8), (i * 80, 0, 0)).save(tmp_path / "images" / part / name / f"{i}.png")
    (tmp_path / "images" / "test" / "dog" / "1.png").write_bytes(b"not a picture")
    options = ["--task.name=folder", "--task.root=images", "--task.shots=1", "--output.dir=run", *IN_PROCESS]
    done = run(tmp_path, "tune", "quickstart", *options, code=2)
    assert "1.png: unreadable image" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_environment_is_clean() -> None:
    assert "RAY_ADDRESS" not in os.environ


def test_a_reader_that_has_read_enough(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command("tune", "--help"), cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, timeout=HANG_SECONDS
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
