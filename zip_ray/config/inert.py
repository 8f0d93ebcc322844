"""Options without effect beside the other choices: they are refused, not ignored.

A later layer (the command line over a file, a suite's changes over a method's file) may make a different choice; values
that an earlier layer sets for the alternative are then left out.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from zip_ray import registry
from zip_ray.config.fields import CHOICES, class_of, owners, section_classes, value
from zip_ray.config.merging import Tree, leaves, merge, without
from zip_ray.errors import InputError
from zip_ray.optimizers import MethodOptions

METHOD, SPACE = "optimizer.method", "prompt.space"
GENERATIVE = ("vlm", "served")


class Rule(NamedTuple):
    """Fields that have no effect for some values of another."""

    fields: tuple[str, ...]
    chooser: str
    idle: Callable[[Any], bool]
    """Whether they have none, given the chooser's value."""


def _is(*values: object) -> Callable[[Any], bool]:
    return lambda value: value in values


def _has_its_weights(name: object) -> bool:
    """Whether a model's name says where its weights are, too."""
    return name == "small-clip" or (isinstance(name, str) and name.startswith(("local-dir:", "hf-hub:")))


def _has_rounds(method: object) -> bool:
    one = section_classes("optimizer").get(str(method))
    return one is not None and issubclass(one, MethodOptions) and one.rounds


RULES = (
    Rule(("execution.in_flight", "execution.max_staleness", "execution.round_share"), "execution.mode", _is("sync")),
    Rule(("execution.in_flight", "execution.max_staleness"), METHOD, _has_rounds),
    Rule(("execution.round_share",), METHOD, lambda method: not _has_rounds(method)),
    Rule(("execution.split",), METHOD, _is("gradient")),
    Rule(("task.crop_scale", "task.flip"), "task.views", _is(0)),
    Rule(("task.question",), "model.scorer", lambda scorer: scorer not in GENERATIVE),
    Rule(("task.template", "task.views"), "model.scorer", _is(*GENERATIVE)),
    Rule(("prompt.tokens",), "prompt.init", lambda init: init != "random"),
    Rule(("prompt.intrinsic_dimension",), "prompt.projection", _is("none")),
    Rule(("optimizer.step_size_offset",), "optimizer.step_size_decay", _is(0)),
    Rule(("model.pretrained",), "model.name", _has_its_weights),
    Rule(
        (
            "cluster.address",
            "cluster.actors",
            "cluster.cpus_per_actor",
            "cluster.gpus_per_actor",
            "cluster.start_timeout",
            "cluster.answer_timeout",
        ),
        "cluster.pool",
        _is("in-process"),
    ),
    Rule(("tracking.uri", "tracking.experiment", "tracking.name", "tracking.parent"), "tracking.enabled", _is(False)),
)


def idle_because(tree: Tree, path: str) -> str | None:
    """The field whose value leaves this one without effect; None where it has one, or is unknown everywhere."""
    section, _, name = path.partition(".")
    chosen = class_of(tree, section)
    if chosen is not None and name not in chosen.model_fields and owners(path):
        return f"{section}.{registry.FIELDS[section]}"
    if chosen is None:
        return None
    rules = (rule for rule in RULES if path in rule.fields)
    return next((rule.chooser for rule in rules if rule.idle(value(tree, rule.chooser))), None)


def idle_fields(tree: Tree) -> Iterator[tuple[str, str]]:
    """The fields of a tree without effect, each with the field that decides so; a None is no field."""
    for path in leaves(tree):
        if value(tree, path) is not None and (chooser := idle_because(tree, path)) is not None:
            yield path, chooser


def overlay(*layers: Tree) -> Tree:
    """Layers merged, each over the one before, without values that a choice in a later one leaves without effect."""
    tree: Tree = {}
    for layer in layers:
        tree = merge(tree, layer)
    given = [set(leaves(layer)) for layer in layers]

    def chosen_later(path: str, chooser: str) -> bool:
        last = max(place for place, paths in enumerate(given) if path in paths)
        if chooser == SPACE and not any(SPACE in paths for paths in given):
            chooser = METHOD  # which brings the space
        return any(chooser in paths for paths in given[last + 1 :])

    return without(tree, {path for path, chooser in idle_fields(tree) if chosen_later(path, chooser)})


def require_effect(tree: Tree, source: str = "", spared: Collection[str] = ()) -> None:
    """Refuse a tree with a field that has no effect.

    Args:
        tree: what was given, put together.
        source: where it was read, for the message.
        spared: fields that may be without effect.

    Raises:
        InputError: names the field, why it has no effect, and what it belongs to.
    """
    for path, chooser in idle_fields(tree):
        if path in spared:
            continue
        chosen = owners(path) if chooser in CHOICES else []
        belongs = f": it belongs to {', '.join(chosen)}" if chosen else f": leave it out, or change {chooser}"
        here = f"{source}: " if source else ""
        raise InputError(f"{here}{path}: has no effect with {chooser} {_shown(value(tree, chooser))}{belongs}")


def _shown(setting: object) -> str:
    return str(setting).lower() if isinstance(setting, bool) else str(setting)
