"""The verbs for programs and notebooks: what the command line does, given and returned as objects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Any, NamedTuple

from zip_ray import api, registry
from zip_ray.cli import settings
from zip_ray.cli.live_view import shown
from zip_ray.cli.signals import stop_on_signal
from zip_ray.comparison.execute import SuiteOutcome
from zip_ray.comparison.report.document import PAGE
from zip_ray.comparison.suite import load_suite, suite_of
from zip_ray.config.merging import Tree, merge
from zip_ray.config.reading import config_tree
from zip_ray.config.shipped import find_config
from zip_ray.config.task import BUILT_IN
from zip_ray.config.tree import Config
from zip_ray.config.writing import effective
from zip_ray.errors import InputError
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.kept import KeptPool
from zip_ray.runs.run_result import RunResult
from zip_ray.tuning.events import Event

if TYPE_CHECKING:
    from zip_ray.artifact.classifier import Prediction

Given = Config | Mapping[str, Any] | str | Path
"""A config, one as plain values, a YAML file, the name of a config that ships, or that of a built-in task."""
Callback = Callable[[Event], object]
SHORT_FORMS = {
    "method": "optimizer.method",
    "space": "prompt.space",
    "scorer": "model.scorer",
    "queries": "budget.queries",
    "seconds": "budget.seconds",
    "steps": "budget.steps",
    "shots": "task.shots",
    "actors": "cluster.actors",
}
"""Keywords beside those of the config's sections, and the fields that they set."""
FIRST_FIELDS = {
    "task": "name",
    "model": "name",
    "prompt": "space",
    "optimizer": "method",
    "budget": "queries",
    "output": "dir",
}
"""By section: the field that a keyword sets which gives the section something else than a mapping."""


def tune(
    config: Given | None = None,
    *,
    pool: KeptPool | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    **options: Any,
) -> RunResult:
    """Tune a prompt: `zip_ray.tune("digits", method="zip", queries=1000)`.

    Ctrl-C stops the run with its state saved and raises KeyboardInterrupt, which names the folder to resume.

    Args:
        config: a `Config`, one as plain values, a YAML file, the name of a config that ships (such as `quickstart`),
            or that of a built-in task; the defaults where absent.
        pool: an open pool (see `open_pool`); the run opens one of its own where absent.
        callbacks: each receives every event of the run (`zip_ray.tuning.events`) and must not wait. One that raises
            `zip_ray.Interrupted` stops the run, whose result then is not `finished`; it can be resumed.
        progress: whether to show it on stderr.
        **options: changes to the config: a section with its fields as a mapping (`task={"shots": 4}`), or one of
            method, space, scorer, queries, seconds, steps, shots, actors. Where a name is wanted (`method=`, `space=`,
            `task=`, `scorer=`), your own class may be given (docs/guides/extend.md).

    Raises:
        InputError: a name, an option, the model, the task or the cluster cannot be used; one line with the remedy.
        PoolError: no actor is left; the state is saved.
        KeyboardInterrupt: Ctrl-C.
    """
    run = _on_pool(pool, partial(_settings, config), options)
    with _attended(api.open_pool, run, pool, callbacks, progress) as attended:
        result = api.tune(run, attended.open_pool, attended.interrupted, attended.listen)
    return _ended(result, attended)


def resume(
    folder: str | Path,
    *,
    pool: KeptPool | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    **options: Any,
) -> RunResult:
    """Continue a run that was stopped, or one that is finished with a larger budget: `zip_ray.resume(folder)`.

    Args:
        folder: the run folder, or the URI of its copy, which is fetched to runs/ first.
        pool: as in `tune`.
        callbacks: as in `tune`.
        progress: as in `tune`.
        **options: as in `tune`; only what may change on resume: budget, cluster and tracking.

    Raises:
        InputError: no run, a damaged one, one in use, or an option that changes the trajectory.
        PoolError: as `tune`.
        KeyboardInterrupt: as `tune`.
    """
    place = api.fetched(str(folder)) if "://" in str(folder) else Path(folder)
    run = _on_pool(pool, partial(settings.of_run, place), options)
    with _attended(api.open_pool, run, pool, callbacks, progress) as attended:
        result = api.resume(place, run, attended.open_pool, attended.interrupted, attended.listen)
    return _ended(result, attended)


def evaluate(prompt: str | Path | RunResult, **options: Any) -> dict[str, float]:
    """Test accuracy by name: of a tuned prompt, with its readout if it has one, and of the task's plain template.

    Args:
        prompt: the result of a run, its folder, or tuned_prompt.safetensors.
        **options: seed and fields of the task; those of the prompt's own run where absent. With fields of `cluster`
            it runs on Ray actors.

    Raises:
        InputError: no tuned prompt, or the task or the model cannot be used.
    """
    place = prompt.folder if isinstance(prompt, RunResult) else Path(prompt)
    test = settings.of_prompt(place, _tree(options))
    return api.evaluate(place, test).accuracies


def classify(
    prompt: str | Path | RunResult, images: str | Path, classes: Sequence[str] | None = None
) -> "list[Prediction]":
    """The class of each image file, in the order of their names.

    Args:
        prompt: the result of a run, its folder, or tuned_prompt.safetensors.
        images: an image, or a folder of images.
        classes: class names to choose from; the prompt's own where absent.

    Raises:
        InputError: no image, an unreadable one, or the model cannot be used.
    """
    place = prompt.folder if isinstance(prompt, RunResult) else Path(prompt)
    return list(api.classify(place, Path(images), None if classes is None else tuple(classes)))


@dataclass(frozen=True)
class SuiteResult:
    """How a suite ended."""

    folder: Path
    outcome: SuiteOutcome
    """Runs that finished now, that failed (by label: why), and that are left."""

    @property
    def report(self) -> Path:
        """The report, a self-contained page; it exists once all runs have ended."""
        return self.folder / PAGE


def compare(suite: str | Path | Mapping[str, Any], *, output: str | Path | None = None, **options: Any) -> SuiteResult:
    """Run methods x tasks x seeds on one pool, and report; call it again to continue after a stop.

    Args:
        suite: a YAML file, the name of a suite that ships (such as `suites/smoke`), or a suite as plain values.
        output: folder of the suite; runs/suites/NAME where absent.
        **options: fields of budget, cluster, model and tracking for all runs, as in `tune`.

    Raises:
        InputError: the suite, its folder or the cluster cannot be used.
        PoolError: no actor is left.
        KeyboardInterrupt: Ctrl-C.
    """
    source = Path("suite") if isinstance(suite, Mapping) else find_config(str(suite))
    asked = suite_of(dict(suite), source) if isinstance(suite, Mapping) else load_suite(source)
    with stop_on_signal(api.open_hosts, [SIGINT]) as (interrupted, opener):
        folder = None if output is None else Path(output)
        found = SuiteResult(*api.compare(asked.changed(_tree(options)), source, folder, opener, interrupted))
        if interrupted():
            raise KeyboardInterrupt(f"{found.outcome.left} runs left: make the same call to continue")
    return found


def open_pool(config: Given | None = None, **options: Any) -> KeptPool:
    """A pool that many runs use: `with zip_ray.open_pool(...) as pool: zip_ray.tune(..., pool=pool)`.

    Actors keep the model that they have loaded while the runs ask for the same one.

    Args:
        config: as in `tune`; its cluster is that of all the runs, and its model is loaded first.
        **options: as in `tune`.

    Raises:
        InputError: a name, an option or the cluster cannot be used.
        PoolError: a local cluster does not start.
    """
    return api.keep_pool(_settings(config, _tree(options)))


class _Attended(NamedTuple):
    """What a run is given to be watched and stopped by."""

    open_pool: Callable[[Config], Pool]
    interrupted: Callable[[], bool]
    listen: Callable[[Event], None]


@contextmanager
def _attended(
    opener: Callable[[Config], Pool],
    run: Config,
    pool: KeptPool | None,
    callbacks: Sequence[Callback],
    progress: bool,
) -> Iterator[_Attended]:
    """Ctrl-C, progress and callbacks of a run."""
    with ExitStack() as stack:
        opener = opener if pool is None else pool.of_run
        interrupted, opener = stack.enter_context(stop_on_signal(opener, [SIGINT]))
        listeners: list[Callback] = [stack.enter_context(shown(run)).event] if progress else []
        listeners += callbacks

        def listen(event: Event) -> None:
            for callback in listeners:
                callback(event)

        yield _Attended(opener, interrupted, listen)


def _ended(result: RunResult, attended: _Attended) -> RunResult:
    """The result, unless the run was cut off from outside.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        PoolError: no actor is left.
    """
    more = f"continue with zip_ray.resume('{result.folder}')"
    if not result.finished and attended.interrupted():
        raise KeyboardInterrupt(f"stopped after {result.queries} queries: {more}")
    if "pool" in result.outcome.reasons:
        raise PoolError(f"{result.outcome.reasons['pool']}: {more}")
    return result


def _on_pool(pool: KeptPool | None, settle: Callable[[Tree], Config], options: Mapping[str, Any]) -> Config:
    """The config that options make, with the cluster of an open pool.

    Raises:
        InputError: an option is unknown, or of the cluster of a pool that is open already.
    """
    given = _tree(options)
    if pool is None:
        return settle(given)
    if "cluster" in given:
        raise InputError("cluster: the pool is open already: give its options to zip_ray.open_pool")
    return settle(given).model_copy(update={"cluster": pool.cluster})


def _settings(config: Given | None, given: Tree) -> Config:
    """The config of a new run."""
    if isinstance(config, Config):
        return settings.over(effective(config), given, "")
    if isinstance(config, Mapping):
        return settings.over(_tree(config), given, "")
    if config is None:
        return settings.over({}, given, "")
    path = find_config(str(config))
    if not path.is_file() and str(config) in BUILT_IN:
        return settings.over({"task": {"name": str(config)}}, given, "")
    return settings.over(config_tree(path), given, str(path))


def _tree(options: Mapping[str, Any]) -> Tree:
    """Keywords as a config in parts.

    Raises:
        InputError: one is unknown.
    """
    tree: Tree = {}
    for name, value in options.items():
        path = SHORT_FORMS.get(name, name)
        section, _, field = path.partition(".")
        if section not in Config.model_fields:
            known = ", ".join([*Config.model_fields, *SHORT_FORMS])
            raise InputError(f"{name}: unknown option: known are {known}, and fields as section={{'field': value}}")
        if section in FIRST_FIELDS and not field and not isinstance(value, Mapping):
            field = FIRST_FIELDS[section]
        tree = merge(tree, {section: {field: _plain(section, value)} if field else _plain(section, value)})
    return tree


def _plain(section: str, value: Any) -> Any:
    """A value as a YAML file has it: classes by their import path."""
    if isinstance(value, Mapping):
        return {name: _plain(section, one) for name, one in value.items()}
    if isinstance(value, type):
        return registry.path_of(section, value)
    return str(value) if isinstance(value, Path) else value
