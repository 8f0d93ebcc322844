"""The verbs, and the composition: which scorer, which pool, and which listeners receive the events.

Slow imports are made where they are needed: a driver on a cluster needs no torch, a run in one process no Ray, and
`--help` neither.
Actors build scorers with functions of this module and keys, so that their process can import everything by name.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zip_ray import registry
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.config.scorer_key import own_classes, scorer_key
from zip_ray.config.secrets import without_secrets
from zip_ray.config.threads import with_threads
from zip_ray.config.tracking import TrackingConfig
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import Pool, ScorerLike
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.kept import KeptPool
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.pool.splitting import split_if_asked
from zip_ray.runs import lifecycle, mlflow_mirror, mlflow_server
from zip_ray.runs.lifecycle import Listener, OpenPool
from zip_ray.runs.mlflow_mirror import Replayed
from zip_ray.runs.pooled_test import score_on_pool
from zip_ray.runs.remote_copy import fetch
from zip_ray.runs.run_result import RunResult
from zip_ray.scorer.building import ScorerBuilder
from zip_ray.tuning.events import Event

if TYPE_CHECKING:
    from zip_ray.artifact.classifier import Prediction
    from zip_ray.artifact.scored_test import ScoredTest
    from zip_ray.comparison.execute import SuiteOutcome
    from zip_ray.comparison.plan import Selection
    from zip_ray.comparison.suite import Suite

OpenHosts = Callable[[Config, list[str]], Pool]


def build_scorer(key: str) -> ScorerLike:
    """The scorer of a run, in the process that scores."""
    scorer: ScorerLike = ScorerBuilder().of_key(key)
    return scorer


def build_host(keys: list[str]) -> ScorerLike:
    """The scorers of the runs of a suite, in the process that scores."""
    return MultiScorer(ScorerBuilder().of_key, keys)


def open_pool(config: Config) -> Pool:
    """The pool of one run."""
    key = scorer_key(config)
    return split_if_asked(_open(config, partial(build_scorer, key), [key]), config)


def open_hosts(config: Config, keys: list[str]) -> Pool:
    """The pool of the runs of a suite, given a config for the cluster and the keys of the runs to come."""
    return _open(config, partial(build_host, keys), keys)


def keep_pool(config: Config) -> KeptPool:
    """A pool for many runs, on the cluster of this config; its actors load the model of this config first.

    Raises:
        InputError: the cluster cannot be used.
        PoolError: a local one does not start.
    """
    return KeptPool(open_hosts(config, [scorer_key(with_threads(config))]), config.cluster)


def tune(
    config: Config,
    open_pool: OpenPool = open_pool,
    interrupted: Callable[[], bool] = lambda: False,
    listen: Listener = lambda _: None,
) -> RunResult:
    """Start a run, and run it to its end.

    Args:
        config: the run.
        open_pool: makes its pool.
        interrupted: whether the run has been asked to stop.
        listen: receives each event; must not wait.

    Raises:
        InputError: the run folder exists, or would be deleted with a Ray job; or model, task or cluster cannot be used.
        OutputError: the run folder cannot be written to.
        PoolError: no scorer started.
    """
    _require_lasting(config, config.output.dir)
    return lifecycle.tune(config, open_pool, interrupted, _with_metrics(config, config.output.dir, listen))


def resume(
    folder: Path,
    config: Config,
    open_pool: OpenPool = open_pool,
    interrupted: Callable[[], bool] = lambda: False,
    listen: Listener = lambda _: None,
) -> RunResult:
    """Continue a run from its last checkpoint; otherwise as `tune`.

    Args:
        folder: the run folder.
        config: its config; budget, cluster and tracking may differ from what was started.
        open_pool: makes the pool.
        interrupted: whether the run has been asked to stop.
        listen: receives each event; must not wait.

    Raises:
        InputError: no run, a damaged one, one in use, another model, or a config that changes the trajectory.
        OutputError: the run folder cannot be written to.
        PoolError: no scorer started.
    """
    _require_lasting(config, folder)
    return lifecycle.resume(folder, config, open_pool, interrupted, _with_metrics(config, folder, listen))


def fetched(uri: str) -> Path:
    """A run folder in runs/, fetched from the URI of its copy.

    Raises:
        InputError: no copy, no access to it, or a folder of that name exists.
    """
    return fetch(uri, Path("runs"))


def compare(
    suite: "Suite",
    source: Path,
    folder: Path | None = None,
    open_hosts: OpenHosts = open_hosts,
    interrupted: Callable[[], bool] = lambda: False,
    selection: "Selection | None" = None,
) -> "tuple[Path, SuiteOutcome]":
    """Run what is left of a suite, and report; returns its folder, and how it ended.

    Args:
        suite: what is compared.
        source: the suite's file, for messages.
        folder: of the suite; runs/suites/NAME where absent.
        open_hosts: makes the one pool.
        interrupted: whether the suite has been asked to stop.
        selection: which of its runs; all where absent.

    Raises:
        InputError: the suite, its folder or the cluster cannot be used; or no run can begin.
        OutputError: the folder cannot be written to.
        PoolError: no scorer is left.
    """
    from zip_ray.comparison.execute import run_suite
    from zip_ray.comparison.plan import EVERYTHING

    folder = folder or Path("runs", "suites", suite.name)
    _require_lasting(suite.common(source), folder, "output")

    def run_listener(run: Config, view: Listener) -> Listener:
        return _with_metrics(run, run.output.dir, view)

    return folder, run_suite(suite, folder, open_hosts, interrupted, run_listener, selection or EVERYTHING)


def report(folder: Path) -> tuple[Path, Path]:
    """Write the report of a suite again, finished or not; the paths of the HTML page and of the same as Markdown.

    Raises:
        InputError: the folder holds no suite, or no run of it has come to its end.
    """
    from zip_ray.comparison.report.write import write_report

    return write_report(folder)


def evaluate(prompt: Path, test: Config, open_pool: OpenPool = open_pool) -> "ScoredTest":
    """Class scores of a task's test images: of a tuned prompt, and of the task's plain template.

    Args:
        prompt: the tuned prompt, or the folder that holds it.
        test: its task and seed; where its cluster's pool is Ray, its model too.
        open_pool: makes the pool, if not in this process.

    Raises:
        InputError: no tuned prompt, or the task or the prompt's model cannot be used.
        PoolError: no scorer started.
    """
    tuned = TunedPrompt.load(prompt)
    if test.cluster.pool == "in-process":
        from zip_ray.artifact.evaluation import score_test

        return score_test(tuned, test.task, test.seed)
    from zip_ray.artifact.scored_test import scored
    from zip_ray.tasks import load_task
    from zip_ray.tasks.counted import counter

    data = load_task(test.task, test.seed)
    with closing(open_pool(with_threads(test))) as pool:
        return scored(score_on_pool(tuned, pool, counter("testing")), data)


def classify(
    prompt: Path,
    images: Path,
    classnames: tuple[str, ...] | None = None,
    skip: Callable[[InputError], None] | None = None,
) -> "Iterator[Prediction]":
    """The class of each image file, in the order of their names.

    Args:
        prompt: of a tuned prompt, or of the folder that holds it.
        images: an image, or a folder of images.
        classnames: classes to choose from; the prompt's own where absent.
        skip: receives the fault of each unreadable file, which is left out; the first is raised where absent.

    Raises:
        InputError: no image, an unreadable one, or the prompt's model cannot be used.
    """
    from zip_ray.tasks.image_folder import list_images

    tuned, files = TunedPrompt.load(prompt), list_images(images)
    return tuned.classifier(classnames).each(files, skip)


def export(prompt: Path, file: Path) -> None:
    """Write a tuned prompt as a linear classifier of image features (see `artifact.class_weights`).

    Raises:
        InputError: no tuned prompt, one that is no such classifier, or a file of another kind.
    """
    TunedPrompt.load(prompt).export(file)


def replay(folder: Path, tracking: TrackingConfig) -> Replayed:
    """Send to MLflow whatever it lacks of a run folder; repeating the call changes nothing.

    Raises:
        InputError: no record, or a server that does not answer.
    """
    return mlflow_mirror.replay(folder, tracking)


def checks(config: Config) -> dict[str, Callable[[], str]]:
    """The checks of a run by name; each returns what it found.

    A check raises InputError or PoolError for a fault.
    """
    from zip_ray.scorer import self_checks

    def cluster() -> str:
        if config.cluster.pool == "in-process":
            return "not used: cluster.pool is in-process"
        from zip_ray.actors.cluster import describe_cluster

        return describe_cluster(config.cluster)

    def tracking() -> str:
        if not config.tracking.enabled:
            return "off"
        mlflow_server.ping(config.tracking)
        return f"{without_secrets(config.tracking.address)} answers"

    return {
        "environment": self_checks.environment,
        "devices": partial(self_checks.devices, config),
        "model": partial(self_checks.model, config),
        "task": partial(self_checks.task, config),
        "prompt": partial(self_checks.prompt, config),
        "cluster": cluster,
        "tracking": tracking,
    }


def _open(config: Config, build: Callable[[], ScorerLike], keys: list[str]) -> Pool:
    """The pool that the config describes; on a cluster, the user's own modules that its runs need are sent there."""
    if config.cluster.pool == "in-process":
        return InProcessPool(build)
    from zip_ray.actors.ray_pool import RayPool

    sources = registry.sources(own for key in keys for own in own_classes(key))
    return RayPool(build, config.cluster, sources, config.output.dir.name if config.output.dir else config.task.name)


def _require_lasting(config: Config, folder: Path | None, option: str = "output.dir") -> None:
    """Within a Ray job, refuse a folder that is deleted with the job.

    Raises:
        InputError: names the option and the remedy.
    """
    from zip_ray.actors.jobs import require_lasting

    require_lasting(config, folder, option)


def _with_metrics(config: Config, folder: Path | None, listen: Listener) -> Listener:
    """What receives the events of a run besides its folder: a listener and, where Ray is used, Ray's metrics."""
    if config.cluster.pool == "in-process":
        return listen
    from zip_ray.actors.metrics import RayMetrics

    metrics = RayMetrics(str(folder or config.task.name), config.budget)

    def forward(event: Event) -> None:
        listen(event)
        metrics.event(event)

    return forward
