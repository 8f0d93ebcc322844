"""The commands, one short function each; the exit code is what they return."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import Positional, UseAppendAction

from zip_ray import api
from zip_ray.artifact.prediction_rows import RowFormat, ranked, write_rows
from zip_ray.cli import flags, settings
from zip_ray.cli.flags import Paths, ResumeOptions, RunOptions, SuiteOptions, TestOptions, TrackingOptions
from zip_ray.cli.live_view import shown
from zip_ray.cli.printing import show_run, show_test
from zip_ray.cli.signals import stop_on_signal
from zip_ray.config.shipped import find_config, purpose, shipped_configs
from zip_ray.config.tree import Config
from zip_ray.config.writing import to_yaml
from zip_ray.errors import InputError

console = Console(markup=False, highlight=False)
"""Paths and errors are printed as they are: brackets in them are not markup."""


@dataclass(frozen=True)
class Command:
    """A command, with what its help shows."""

    run: Callable[..., int]
    paths: Paths = tuple
    """Paths of the config's fields that are options of it."""
    start: Callable[..., Config] | None = None
    """What these options start from, given the positional and what the command line gives."""

    @property
    def options(self) -> tuple[str, ...]:
        """Those paths, and the fields of the user's own classes imported so far."""
        return self.paths()


COMMANDS: dict[str, Command] = {}


def command(
    name: str, paths: Paths = tuple, start: Callable[[Any, Any], Config] | None = None
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a command; arguments as the fields of `Command`."""

    def register(function: Callable[..., int]) -> Callable[..., int]:
        COMMANDS[name] = Command(function, paths, start)
        return function

    return register


@command("tune", flags.RUN, settings.of_file)
def tune(config: Positional[str], given: RunOptions) -> int:
    """Tune a prompt; every field of the config is an option.

    Args:
        config: YAML file, or the name of a config that ships, such as quickstart
    """
    run = settings.of_file(config, given)
    with stop_on_signal(api.open_pool) as (interrupted, opener), shown(run) as view:
        result = api.tune(run, opener, interrupted, view.event)
    return show_run(console, result, run)


@command("resume", flags.RESUME, settings.of_run)
def resume(run_dir: Positional[str], given: ResumeOptions) -> int:
    """Continue a run that was stopped, or one that is finished with a larger budget; no query is charged twice.

    Args:
        run_dir: the run's folder, or the URI of its copy (output.remote), which is fetched to runs/ first
    """
    folder = api.fetched(run_dir) if "://" in run_dir else Path(run_dir)
    run = settings.of_run(folder, given)
    with stop_on_signal(api.open_pool) as (interrupted, opener), shown(run) as view:
        result = api.resume(folder, run, opener, interrupted, view.event)
    return show_run(console, result, run)


@command("status")
def status(run_dir: Positional[str]) -> int:
    """Show the progress of a run in another process: queries, speed, time left, actors.

    Args:
        run_dir: the run's folder, or the URI of its copy (output.remote)
    """
    from zip_ray.cli.status import status, status_of_copy

    for line in status_of_copy(run_dir) if "://" in run_dir else status(Path(run_dir)):
        console.print(line, soft_wrap=True)
    return 0


@command("evaluate", flags.TEST, settings.of_prompt)
def evaluate(
    prompt: Positional[Path], given: TestOptions, output: Path | None = None, format: RowFormat = "csv"
) -> int:
    """Test a tuned prompt on its own task (of the config.yaml beside it), or on another task with the same model.

    It runs in this process; with an option of `cluster`, such as --cluster.address, on the actors of a Ray cluster.

    Args:
        prompt: tuned_prompt.safetensors, or the folder that holds it
        output: folder for predictions, accuracy per class and the confusion matrix; default: they are not written
        format: of the predictions
    """
    test = settings.of_prompt(prompt, given)
    with stop_on_signal(api.open_pool) as (_, opener):
        found = api.evaluate(prompt, test, opener)
    show_test(console, found)
    if output is not None:
        from zip_ray.artifact.evaluation_files import write_test

        for path in write_test(found, output, format):
            console.print(str(path), soft_wrap=True)
    return 0


@command("classify")
def classify(
    prompt: Positional[Path],
    images: Positional[Path],
    classes: Annotated[tuple[str, ...], UseAppendAction] = (),
    top: int = 1,
    format: RowFormat = "csv",
) -> int:
    """Print the class of each image file and its probability, one image per line, as CSV or JSON lines.

    Unreadable files are named on stderr and left out; the exit code is then 1.

    Args:
        prompt: tuned_prompt.safetensors, or the folder that holds it
        images: an image, or a folder of images
        classes: a class name to choose from, may be given again; default: those of the prompt
        top: how many classes to print per image, the most probable ones
        format: csv has a header
    """
    skipped: list[InputError] = []

    def skip(error: InputError) -> None:
        skipped.append(error)
        print(f"skipped: {error}", file=sys.stderr)

    if top < 1:
        raise InputError(f"--top: is {top}: give at least 1")
    predictions = api.classify(prompt, images, classes or None, skip)
    rows = ({"path": str(one.path), **ranked(one.probabilities, top)} for one in predictions)
    count = write_rows(sys.stdout, rows, format)
    if skipped:
        print(f"{len(skipped)} of {count + len(skipped)} images skipped", file=sys.stderr)
    return 1 if skipped else 0


@command("export")
def export(prompt: Positional[Path], file: Positional[Path]) -> int:
    """Write a tuned prompt, with its readout, as a linear classifier of image features for other programs.

    Args:
        prompt: tuned_prompt.safetensors, or the folder that holds it
        file: what to write, .safetensors or .npz
    """
    api.export(prompt, file)
    console.print(f"weights, bias and class names  {file}", soft_wrap=True)
    return 0


@command("doctor", flags.RUN, settings.of_file)
def doctor(config: Positional[str | None] = None, given: RunOptions = {}) -> int:  # noqa: B006 - not changed
    """Check environment, devices, model, task, cluster and tracking server, with a remedy for each fault.

    Args:
        config: YAML file, or the name of a config that ships; default: the default config
    """
    from zip_ray.cli.doctor import examine, show_findings

    return show_findings(console, examine(api.checks(settings.of_file(config, given))))


@command("compare", flags.SUITE, settings.of_suite)
def compare(
    suite: Positional[str],
    given: SuiteOptions,
    output: Path | None = None,
    data: Path | None = None,
    tasks: Annotated[tuple[str, ...], UseAppendAction] = (),
    methods: Annotated[tuple[str, ...], UseAppendAction] = (),
    seeds: Annotated[tuple[int, ...], UseAppendAction] = (),
    dry_run: bool = False,
) -> int:
    """Run methods x tasks x seeds on one pool, and report; run it again to continue after a stop.

    Args:
        suite: YAML file, or the name of a suite that ships, such as suites/smoke
        output: folder of the suite; default: runs/suites/NAME
        data: root of its data sets; default: as in the suite
        tasks: label of a task to run, may be given again; default: all
        methods: label of a method to run, may be given again; default: all
        seeds: seed to run, may be given again; default: all
        dry_run: only say how many runs and queries are left, and how long they take
    """
    from zip_ray.cli.suite_printing import show_suite
    from zip_ray.comparison.forecast import forecast
    from zip_ray.comparison.plan import Selection
    from zip_ray.comparison.suite import load_suite

    path = find_config(suite)
    asked = load_suite(path).changed(given)
    asked = asked.rooted(data) if data else asked
    selection = Selection(tasks, methods, seeds)
    if dry_run:
        for line in forecast(asked, output or Path("runs", "suites", asked.name), selection):
            console.print(line, soft_wrap=True)
        return 0
    with stop_on_signal(api.open_hosts) as (interrupted, opener):
        folder, outcome = api.compare(asked, path, output, opener, interrupted, selection)
    return show_suite(console, outcome, folder)


@command("report")
def report(suite_dir: Positional[Path]) -> int:
    """Write the report of a suite again, finished or not: as one HTML page, and as Markdown with figures.

    Args:
        suite_dir: the suite's folder
    """
    for path in api.report(suite_dir):
        console.print(str(path), soft_wrap=True)
    return 0


@command("replay", flags.TRACKING, settings.of_run)
def replay(run_dir: Positional[Path], given: TrackingOptions) -> int:
    """Send to MLflow whatever it lacks of a run, for example after its server was down. Safe to repeat.

    Args:
        run_dir: the run's folder
    """
    done = api.replay(run_dir, settings.of_run(run_dir, given).tracking)
    console.print(f"MLflow run {done.run_id}: {done.metrics} points and {done.artifacts} files sent")
    return 0


@command("configs")
def configs() -> int:
    """List the configs that ship with zip-ray, with their purpose."""
    for name, path in shipped_configs().items():
        line = f"{name:32} {purpose(path)}"
        if console.is_terminal:
            console.print(line, overflow="ellipsis", no_wrap=True)
        else:
            print(line)
    return 0


@command("config show", flags.RUN, settings.of_file)
def config_show(config: Positional[str | None] = None, given: RunOptions = {}) -> int:  # noqa: B006 - not changed
    """Print the config that a run would have, as YAML; values that differ from the defaults come first, marked.

    Args:
        config: YAML file, or the name of a config that ships; default: the default config
    """
    print(to_yaml(settings.of_file(config, given)), end="")
    return 0
