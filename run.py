"""zip-ray's command line and composition root: reads a config, builds the parts, starts the loop."""

import contextlib
import functools
import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import tyro
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from zip_ray.config import Config, TaskConfig, TrackingConfig, explain, load_config
from zip_ray.errors import InputError
from zip_ray.layout import SplitPool
from zip_ray.pool import InProcessPool, Pool, PoolError, ScorerLike
from zip_ray.record import Event
from zip_ray.runs import CONFIG, OpenPool, RunResult, resume, tune
from zip_ray.tuned_prompt import TunedPrompt

INTERRUPTED = 130
PYTHON = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
"""This interpreter, as a command that works where the user stands."""
console = Console()
app = tyro.extras.SubcommandApp()
Settings = Annotated[Config, arg(name="")]


def build_scorer(config: Config) -> ScorerLike:
    """The scorer of a run. torch is imported here, in the process that scores: a Ray driver does without."""
    from zip_ray.clip.scorer import build_scorer

    return build_scorer(config)


def open_pool(config: Config) -> Pool:
    """The pool that the config names."""
    build = partial(build_scorer, config)
    if config.cluster.pool == "in-process":
        pool: Pool = InProcessPool(build)
    else:
        from actors import RayPool

        pool = RayPool(build, config.cluster)
    return pool if config.parallel == (1, 1) else SplitPool(pool, config)


def listener(config: Config, folder: Path | None) -> Callable[[Event], None]:
    """What hears the events of a run besides its own folder: Ray's metrics, where there is Ray.

    Raises:
        InputError: this is a Ray job, and the folder would be deleted with it.
    """
    if config.cluster.pool == "in-process":
        return lambda _: None
    from actors import RayMetrics, require_lasting

    require_lasting(config, folder)
    return RayMetrics(run=str(folder or config.task.name)).event


def command(name: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a subcommand. The parser only binds its arguments: it runs when the parser is done with the line."""

    def register(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def bind(*args: object, **kwargs: object) -> Callable[[], int]:
            return partial(function, *args, **kwargs)

        app.command(bind, name=name)
        return function

    return register


def base_config(arguments: list[str]) -> Config:
    """What the overrides of this command line start from: the config file named, or that of the run folder."""
    command, *rest = arguments or [""]
    if not rest or rest[0].startswith("-"):
        return Config()
    path = Path(rest[0])
    if command in ("tune", "doctor"):
        return load_config(path)
    if command in ("resume", "replay"):
        return load_config(path / CONFIG)
    beside = (path if path.is_dir() else path.parent) / CONFIG
    return load_config(beside) if command == "evaluate" and beside.is_file() else Config()


def define_commands(default: Config) -> None:
    """The subcommands; `default` is what the help shows and the overrides change."""

    @command("tune")
    def _tune(config: Positional[Path], settings: Settings = default) -> int:
        """Tune a prompt, as a config file says; every field can be overridden.

        Args:
            config: YAML file, such as configs/quickstart.yaml.
        """
        with stop_on_signal() as (stop, opener):
            return show(tune(settings, opener, stop.is_set, listener(settings, settings.output.dir)), settings)

    @command("resume")
    def _resume(run_dir: Positional[Path], settings: Settings = default) -> int:
        """Go on with a run that was cut off, or with more budget (--budget.queries); nothing is charged twice.

        Args:
            run_dir: the run's folder, or the URI of its copy (output.remote), which is fetched to runs/ first.
        """
        with stop_on_signal() as (stop, opener):
            return show(resume(run_dir, settings, opener, stop.is_set, listener(settings, run_dir)), settings)

    @command("status")
    def _status(run_dir: Positional[Path]) -> int:
        """How a run is doing that goes on elsewhere: progress, speed, time left, actors.

        Args:
            run_dir: the run's folder.
        """
        from zip_ray.status import status

        for line in status(run_dir):
            console.print(line, soft_wrap=True, highlight=False)
        return 0

    @command("evaluate")
    def _evaluate(prompt: Positional[Path], task: TaskConfig = default.task, seed: int = default.seed) -> int:
        """Test a tuned prompt on its own task (of the config.yaml beside it), or on any other with the same model.

        Args:
            prompt: tuned_prompt.safetensors, or the folder that holds it.
            task: what to test on.
            seed: splits a folder without train/ and test/.
        """
        from zip_ray.inference import evaluate

        console.print(accuracy_table(evaluate(TunedPrompt.load(prompt), task, seed), {}))
        return 0

    @command("classify")
    def _classify(prompt: Positional[Path], images: Positional[Path], classes: tuple[str, ...] = ()) -> int:
        """Class and probability of each image file, one a line.

        Args:
            prompt: tuned_prompt.safetensors, or the folder that holds it.
            images: an image, or a folder of images.
            classes: class names to choose from; the prompt's own where absent.
        """
        from zip_ray.inference import classify

        for found in classify(TunedPrompt.load(prompt), images, classes or None):
            print(f"{found.path}\t{found.classname}\t{found.probability:.4f}")
        return 0

    @command("doctor")
    def _doctor(config: Positional[Path | None] = None, settings: Settings = default) -> int:
        """Check environment, devices, model, task, cluster and tracking server, and say what to do about faults.

        Args:
            config: YAML file; the defaults where absent.
        """
        from actors.cluster import describe_cluster
        from zip_ray.doctor import examine

        table = Table("check", "", "finding", box=None)
        healthy = True
        for finding in examine(settings, partial(describe_cluster, settings.cluster)):
            mark = "[green]ok[/]" if finding.healthy else "[red]fault[/]"
            table.add_row(finding.name, mark, finding.text)
            healthy = healthy and finding.healthy
        console.print(table)
        return 0 if healthy else 1

    @command("replay")
    def _replay(run_dir: Positional[Path], tracking: TrackingConfig = default.tracking) -> int:
        """Send to MLflow what it lacks of a run, say after its server was down; doing it again changes nothing.

        Args:
            run_dir: the run's folder.
            tracking: where to.
        """
        from zip_ray.tracking import replay

        done = replay(run_dir, tracking)
        console.print(f"MLflow run {done.run_id}: {done.metrics} points and {done.artifacts} files sent")
        return 0


@contextlib.contextmanager
def stop_on_signal() -> Iterator[tuple[threading.Event, OpenPool]]:
    """An event that Ctrl-C or SIGTERM sets (a second one ends the program at once), and what opens the pool.

    Joining a cluster puts Ray's own handlers in place, which end the program: ours come back behind it.
    """
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def install() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handle)

    def open_and_install(config: Config) -> Pool:
        pool = open_pool(config)
        install()
        return pool

    install()
    yield stop, open_and_install


def show(result: RunResult, config: Config) -> int:
    """Print how a run ended; the exit code."""
    state = result.outcome.state
    if not result.outcome.finished:
        console.print(f"stopped: {'; '.join(result.outcome.reasons.values())}", soft_wrap=True)
        text = f"{state.account.charged} queries done; go on with: {PYTHON} run.py resume {result.folder}"
        console.print(text, soft_wrap=True, highlight=False)
        return INTERRUPTED if "interrupted" in result.outcome.reasons else 1
    console.print(accuracy_table(result.accuracies, result.templates))
    console.print(
        f"{state.account.charged} queries in {state.seconds:.1f} s ({'; '.join(result.outcome.reasons.values())})\n"
        f"tuned prompt  {result.folder / 'tuned_prompt.safetensors'}\n"
        f"picture       {result.folder / 'accuracy.png'}",
        soft_wrap=True,
        highlight=False,
    )
    if config.tracking.enabled:
        where = f"{result.run_id} in {config.tracking.uri}" if result.tracked else "incomplete"
        console.print(
            f"MLflow run    {where}\nopen it with  {next_command(result, config)}", soft_wrap=True, highlight=False
        )
    return 0


def next_command(result: RunResult, config: Config) -> str:
    """What shows the run in MLflow, or first completes it there."""
    if not result.tracked:
        return f"{PYTHON} run.py replay {result.folder}"
    uri = config.tracking.uri
    return f"{PYTHON} -m mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else f"a browser at {uri}"


def accuracy_table(accuracies: dict[str, float], templates: dict[str, str]) -> Table:
    """Test accuracies as rows."""
    table = Table("prompt", "test accuracy", "text")
    for name, accuracy in accuracies.items():
        kind = name if name == "tuned" else f"zero-shot, {name}"
        table.add_row(kind, f"{accuracy:.1%}", templates.get(name, ""))
    return table


def parse_failure(text: str) -> str:
    """The parser's framed message as one line."""
    lines = [line.strip("│ ╭╮╰╯─") for line in text.splitlines()]
    body = " ".join(line for line in lines[1:] if line)
    body = re.sub(r"For further information visit \S+|For full helptext.*|__tyro-dummy-inner__\.settings\.", "", body)
    return f"{body.strip()} (see run.py --help)"


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def fetched(arguments: list[str]) -> list[str]:
    """The command line with the run folder in its place, where `resume` is given the URI of a copy."""
    if arguments[:1] == ["resume"] and "://" in "".join(arguments[1:2]):
        from zip_ray.remote import fetch

        return ["resume", str(fetch(arguments[1], Path("runs"))), *arguments[2:]]
    return arguments


def main(arguments: list[str]) -> int:
    """Run a command line; the exit code: 0 done, 1 the run or a check failed, 2 bad input, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    complaint = io.StringIO()
    try:
        arguments = fetched(arguments)
        define_commands(base_config(arguments))
        with contextlib.redirect_stderr(complaint):
            run: Callable[[], int] = app.cli(args=arguments or ["--help"], prog="run.py", description=__doc__)
        return run()
    except InputError as error:
        fail(str(error))
    except ValidationError as error:
        fail(explain(error))
    except PoolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit as error:
        if error.code and (text := complaint.getvalue()):
            fail(parse_failure(text))
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
