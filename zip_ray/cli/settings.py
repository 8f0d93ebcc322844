"""The config of a command: that of a file or a folder, overridden by the command line."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

from zip_ray import registry
from zip_ray.cli.flags import SHORT_FORMS
from zip_ray.config.fields import class_of, value
from zip_ray.config.inert import overlay, require_effect
from zip_ray.config.merging import Tree, leaves, merge
from zip_ray.config.reading import config_tree, validate
from zip_ray.config.shipped import find_config
from zip_ray.config.task import of_other_data
from zip_ray.config.tree import CHOOSERS, Config, options_class
from zip_ray.errors import InputError
from zip_ray.runs.folder import CONFIG, run_tree


def of_file(config: str | None, given: Tree) -> Config:
    """The config of a new run.

    Args:
        config: a file, or the name of a config that ships with zip-ray; the defaults where absent.
        given: on the command line.

    Raises:
        InputError: the file, or the merged config, is not valid.
    """
    if config is None:
        return over({}, given, "")
    path = find_config(config)
    return over(config_tree(path), given, str(path))


def introduce(arguments: Sequence[str]) -> None:
    """Import the user's own classes that a line or its config refers to, so that their options are recognised.

    Raises:
        InputError: it cannot be imported.
    """
    choosers = {f"{section}.{field}": section for section, field in registry.FIELDS.items()}
    for word, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        option, equals, name = word.partition("=")
        path = SHORT_FORMS.get(option, option.removeprefix("--").replace("-", "_"))
        if path in choosers:
            options_class(choosers[path], name if equals else following)
    if arguments and not arguments[0].startswith("-"):
        with suppress(InputError):  # the file itself is read, and refused, later
            tree = config_tree(find_config(arguments[0]))
            for section in registry.GROUPS:
                class_of(tree, section)


def of_run(folder: str | Path, given: Tree) -> Config:
    """The config that a run continues with, as `of_file`."""
    return over(run_tree(Path(folder)), given, str(Path(folder, CONFIG)))


def of_prompt(prompt: Path, given: Tree) -> Config:
    """Seed and task that a tuned prompt is tested on: its own, of the config.yaml beside it, or others.

    On a cluster, its model and prompt space too.

    Raises:
        InputError: a cluster is given and there is no config.yaml; or the config is not valid.
    """
    folder = prompt if prompt.is_dir() else prompt.parent
    own = run_tree(folder) if (folder / CONFIG).is_file() else {}
    pooled = bool(given.get("cluster"))
    if pooled and not own:
        raise InputError(
            f"{folder}: no config.yaml, which names the model for actors: leave out the options of cluster"
        )
    sections = ("seed", "task", "model", "prompt", "optimizer") if pooled else ("seed", "task")
    kept: Tree = {name: own[name] for name in sections if name in own}
    if not pooled:
        kept["cluster"] = {"pool": "in-process"}
    if "name" in given.get("task", {}):
        kept["task"] = of_other_data(kept.get("task", {}), given["task"])
    return over(kept, given, str(folder / CONFIG))


def of_suite(suite: str, given: Tree) -> Config:
    """The budget, cluster, output and tracking that the runs of a suite have in common."""
    from zip_ray.comparison.suite import load_suite

    path = find_config(suite)
    return load_suite(path).changed(given).common(path)


def over(tree: Tree, given: Tree, source: str) -> Config:
    """A file's tree with the given values; a method or space that these choose brings its own defaults.

    Args:
        tree: of the file.
        given: on the command line, or by a program.
        source: the file, for messages.

    Raises:
        InputError: names the file where the fault is in it.
    """
    given = {section: fields for section, fields in given.items() if fields != {}}
    whole = merge(tree, given)
    for section, (chooser, _) in CHOOSERS.items():  # the method first: it may bring another space
        choice = f"{section}.{chooser}"
        if value(whole, choice) != value(tree, choice):
            tree = {name: fields for name, fields in tree.items() if name != section}
    whole = overlay(tree, given)
    require_effect(whole, source, spared=set(leaves(given)))
    require_effect(whole)
    try:
        return validate(whole, "")
    except InputError:
        validate(tree, source)
        raise
