"""zip-ray's command line and composition root: reads a config, builds the parts, starts the loop."""

import contextlib
import functools
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn, ParamSpec

import tyro
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.cli.live_view import ProgressView
from zip_ray.cli.printing import INTERRUPTED, accuracy_table, parse_failure, show_run, show_suite
from zip_ray.compare.execute import run_suite
from zip_ray.compare.report.write import write_report
from zip_ray.compare.suite import load_suite
from zip_ray.config.budget import BudgetConfig
from zip_ray.config.reading import explain, load_config
from zip_ray.config.resources import ClusterConfig
from zip_ray.config.task import TaskConfig
from zip_ray.config.tracking import TrackingConfig
from zip_ray.config.tree import Config
from zip_ray.errors import InputError, OutputError
from zip_ray.pool.contract import Pool, PoolError, ScorerLike
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.pool.splitting import split_if_asked
from zip_ray.runs.folder import CONFIG, run_config
from zip_ray.runs.lifecycle import Listener, resume, tune
from zip_ray.tuning.events import Event

console = Console(markup=False, highlight=False)
"""Paths and errors are printed as they are: a bracket in them is no markup."""
app = tyro.extras.SubcommandApp()
Settings = Annotated[Config, arg(name="")]
P = ParamSpec("P")


def build_scorer(config: Config) -> ScorerLike:
    """The scorer of a run. torch is imported here, in the process that scores: a Ray driver does without."""
    from zip_ray.scorer.scorer import build_scorer

    return build_scorer(config)


def build_host(keys: list[str]) -> ScorerLike:
    """The scorers of the runs of a suite, in the process that scores."""
    from zip_ray.scorer.scorer import ScorerBuilder

    return MultiScorer(ScorerBuilder().of_key, keys)


def open_scorers(config: Config, build: Callable[[], ScorerLike]) -> Pool:
    """The pool that the config names."""
    if config.cluster.pool == "in-process":
        return InProcessPool(build)
    from zip_ray.actors import RayPool

    return RayPool(build, config.cluster)


def open_pool(config: Config) -> Pool:
    """The pool of one run."""
    return split_if_asked(open_scorers(config, partial(build_scorer, config)), config)


def open_hosts(config: Config, keys: list[str]) -> Pool:
    """The pool of the runs of a suite."""
    return open_scorers(config, partial(build_host, keys))


def refuse_fleeting(config: Config, folder: Path | None, option: str = "output.dir") -> None:
    """Refuse, within a Ray job, a folder that is deleted with it. Ray is imported here: the help does without.

    Raises:
        InputError: names the option and the remedy.
    """
    from zip_ray.actors import require_lasting

    require_lasting(config, folder, option)


def listener(config: Config, folder: Path | None, view: Listener) -> Listener:
    """What hears the events of a run besides its own folder: the view, and Ray's metrics, where there is Ray."""
    if config.cluster.pool == "in-process":
        return view
    from zip_ray.actors import RayMetrics

    metrics = RayMetrics(str(folder or config.task.name), config.budget)

    def hear(event: Event) -> None:
        view(event)
        metrics.event(event)

    return hear


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
    if command == "compare":
        return load_suite(path).common(path)
    if command in ("resume", "replay"):
        return run_config(path)
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
        refuse_fleeting(settings, settings.output.dir)
        with stop_on_signal(open_pool) as (interrupted, opener), ProgressView(settings.budget) as view:
            result = tune(settings, opener, interrupted, listener(settings, settings.output.dir, view.event))
        return show_run(console, result, settings)

    @command("resume")
    def _resume(run_dir: Positional[Path], settings: Settings = default) -> int:
        """Go on with a run that was cut off, or with more budget (--budget.queries); nothing is charged twice.

        Args:
            run_dir: the run's folder, or the URI of its copy (output.remote), which is fetched to runs/ first.
        """
        refuse_fleeting(settings, run_dir)
        with stop_on_signal(open_pool) as (interrupted, opener), ProgressView(settings.budget) as view:
            result = resume(run_dir, settings, opener, interrupted, listener(settings, run_dir, view.event))
        return show_run(console, result, settings)

    @command("status")
    def _status(run_dir: Positional[str]) -> int:
        """How a run is doing that goes on elsewhere: progress, speed, time left, actors.

        Args:
            run_dir: the run's folder, or the URI of its copy (output.remote).
        """
        from zip_ray.cli.status import status, status_of_copy

        for line in status_of_copy(run_dir) if "://" in run_dir else status(Path(run_dir)):
            console.print(line, soft_wrap=True)
        return 0

    @command("evaluate")
    def _evaluate(prompt: Positional[Path], task: TaskConfig = default.task, seed: int = default.seed) -> int:
        """Test a tuned prompt on its own task (of the config.yaml beside it), or on any other with the same model.

        Args:
            prompt: tuned_prompt.safetensors, or the folder that holds it.
            task: what to test on.
            seed: splits a folder without train/ and test/.
        """
        from zip_ray.artifact.classifier import evaluate

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
        from zip_ray.artifact.classifier import classify

        for found in classify(TunedPrompt.load(prompt), images, classes or None):
            print(f"{found.path}\t{found.classname}\t{found.probability:.4f}")
        return 0

    @command("doctor")
    def _doctor(config: Positional[Path | None] = None, settings: Settings = default) -> int:
        """Check environment, devices, model, task, cluster and tracking server, and say what to do about faults.

        Args:
            config: YAML file; the defaults where absent.
        """
        from zip_ray.actors.cluster import describe_cluster
        from zip_ray.cli.doctor import examine

        table = Table("check", "", "finding", box=None)
        healthy = True
        for finding in examine(settings, partial(describe_cluster, settings.cluster)):
            mark = Text("ok", "green") if finding.healthy else Text("fault", "red")
            table.add_row(finding.name, mark, finding.text)
            healthy = healthy and finding.healthy
        console.print(table)
        return 0 if healthy else 1

    @command("compare")
    def _compare(
        suite: Positional[Path],
        output: Path | None = None,
        data: Path | None = None,
        budget: BudgetConfig = default.budget,
        cluster: ClusterConfig = default.cluster,
        tracking: TrackingConfig = default.tracking,
    ) -> int:
        """Run methods x tasks x seeds on one pool and report; the same command goes on where it was stopped.

        Args:
            suite: YAML file, such as configs/suites/smoke.yaml.
            output: folder of the suite; runs/suites/NAME where absent.
            data: root of its data sets, in place of the one it names.
            budget: of each run.
            cluster: where they run.
            tracking: where they are copied to.
        """
        asked = load_suite(suite).changed(default, budget=budget, cluster=cluster, tracking=tracking)
        asked = asked.rooted(data) if data else asked
        folder = output or Path("runs", "suites", asked.name)
        refuse_fleeting(asked.common(suite), folder, "output")
        with stop_on_signal(open_hosts) as (interrupted, opener):
            outcome = run_suite(
                asked, folder, opener, interrupted, lambda run, view: listener(run, run.output.dir, view)
            )
        return show_suite(console, outcome, folder)

    @command("report")
    def _report(suite_dir: Positional[Path]) -> int:
        """Write the report of a suite again, finished or not: one HTML page, the same as Markdown, the figures.

        Args:
            suite_dir: the suite's folder.
        """
        for path in write_report(suite_dir):
            console.print(str(path), soft_wrap=True)
        return 0

    @command("replay")
    def _replay(run_dir: Positional[Path], tracking: TrackingConfig = default.tracking) -> int:
        """Send to MLflow what it lacks of a run, say after its server was down; doing it again changes nothing.

        Args:
            run_dir: the run's folder.
            tracking: where to.
        """
        from zip_ray.runs.mlflow_mirror import replay

        done = replay(run_dir, tracking)
        console.print(f"MLflow run {done.run_id}: {done.metrics} points and {done.artifacts} files sent")
        return 0


@contextlib.contextmanager
def stop_on_signal(opener: Callable[P, Pool]) -> Iterator[tuple[Callable[[], bool], Callable[P, Pool]]]:
    """Whether Ctrl-C or SIGTERM has asked the run to stop, and what opens the pool.

    A second signal ends the program at once, and so does the first until the run looks here: it has nothing to save
    while it starts up. Joining a cluster puts Ray's own handlers in place: ours come back behind it.
    """
    asked, looked = threading.Event(), threading.Event()

    def interrupted() -> bool:
        looked.set()
        return asked.is_set()

    def handle(number: int, _frame: object) -> None:
        asked.set()
        os.write(2, b"stopping; once more ends it at once\n")  # print could meet itself, within what it interrupts
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if not looked.is_set():
            raise KeyboardInterrupt

    def install() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handle)

    def open_and_install(*args: P.args, **kwargs: P.kwargs) -> Pool:
        pool = opener(*args, **kwargs)
        install()
        return pool

    install()
    yield interrupted, open_and_install


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def fetched(arguments: list[str]) -> list[str]:
    """The command line with the run folder in its place, where `resume` is given the URI of a copy."""
    if arguments[:1] == ["resume"] and "://" in "".join(arguments[1:2]):
        from zip_ray.runs.remote_copy import fetch

        return ["resume", str(fetch(arguments[1], Path("runs"))), *arguments[2:]]
    return arguments


def at_home(argument: str) -> str:
    """An argument with its `~` read: a shell does not where it is quoted, or stands behind `=`."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{option}{equals}{os.path.expanduser(value)}"


def main(arguments: list[str]) -> int:
    """Run a command line; the exit code: 0 done, 1 the run or a check failed, 2 bad input, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    complaint = io.StringIO()
    try:
        arguments = fetched([at_home(argument) for argument in arguments])
        define_commands(base_config(arguments))
        with contextlib.redirect_stderr(complaint):
            run: Callable[[], int] = app.cli(args=arguments or ["--help"], prog="run.py", description=__doc__)
        return run()
    except InputError as error:
        fail(str(error))
    except ValidationError as error:
        fail(explain(error))
    except (OutputError, PoolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `run.py ... | head` has read enough; Python would flush once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as error:
        if error.code and (text := complaint.getvalue()):
            fail(parse_failure(text, arguments[0]))
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
