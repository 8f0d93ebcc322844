"""Hand-written templates: their accuracy before a run, and the remedy if a tuned prompt ends below it."""

import logging
from collections.abc import Iterable

import numpy as np

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, deployed
from zip_ray.config.tree import Config
from zip_ray.pool.asking import accuracy_on_test, ask, ask_all, tested_parts
from zip_ray.pool.contract import Pool
from zip_ray.pool.membership import PoolWatch
from zip_ray.prompts.options import ContextOptions
from zip_ray.protocol.arrays import Float32, Int64
from zip_ray.protocol.facts import Facts, Split
from zip_ray.protocol.intervals import interval
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Features, FeaturesResult
from zip_ray.readout.feature_baselines import linear_probe, tip_adapter
from zip_ray.tuning.events import ZeroShot

LINEAR_PROBE, TIP_ADAPTER = "linear probe of image features", "Tip-Adapter on image features"
FEATURE_BASELINES = (LINEAR_PROBE, TIP_ADAPTER)

_log = logging.getLogger(__name__)


def evaluate_before(pool: Pool, config: Config, facts: Facts, watch: PoolWatch) -> ZeroShot:
    """Test accuracy of the generic template, of the task's plain one, and of the best of the task's and the generic;
    and of baselines on image features, where the config asks for them.

    The best is chosen on training and validation images: chosen on test images, its accuracy would be too high.
    """

    templates = [*dict.fromkeys((*facts.templates, facts.generic))]
    splits: tuple[Split, ...] = ("train", "val")
    works = [Evaluation(split, template) for template in templates for split in splits]
    found = iter(ask_all(pool, works, EvaluationResult, watch.wait))
    correct = {one: sum(round(next(found).accuracy * facts.images[split]) for split in splits) for one in templates}
    best = max(templates, key=lambda template: correct[template])
    chosen = {"generic template": facts.generic, PLAIN_TEMPLATE: facts.template, "best template": best}
    tested = {text: accuracy_on_test(pool, text, facts.images["test"], watch.wait) for text in {*chosen.values()}}
    accuracies = {name: tested[text] for name, text in chosen.items()}
    if warning := at_chance(tested.values(), facts.images["test"], len(facts.classnames)):
        _log.warning("%s", warning)
    if config.validation.feature_baselines:
        accuracies |= evaluate_feature_baselines(pool, facts, watch)
    return ZeroShot(templates=chosen, test=accuracies)


def evaluate_feature_baselines(pool: Pool, facts: Facts, watch: PoolWatch) -> dict[str, float]:
    """Test accuracy, by name, of a linear probe and of Tip-Adapter with the task's plain template."""

    def features(split: Split) -> tuple[Float32, Int64]:
        works = [Features(split, part) for part in tested_parts(facts.images[split])]
        found = ask_all(pool, works, FeaturesResult, watch.wait)
        return np.concatenate([one.features for one in found]), np.concatenate([one.labels for one in found])

    def scores(split: Split) -> Float32:
        found = ask(pool, Evaluation(split, facts.template, scores=True), EvaluationResult, watch.wait).scores
        assert found is not None
        return found

    (train, labels), (val, val_labels), (test, right) = features("train"), features("val"), features("test")
    made = {
        LINEAR_PROBE: linear_probe(train, labels, val, val_labels, test),
        TIP_ADAPTER: tip_adapter(train, labels, (val, scores("val")), val_labels, (test, scores("test"))),
    }
    return {name: float(np.mean(one.argmax(axis=1) == right)) for name, one in made.items()}


def at_chance(accuracies: Iterable[float], images: int, classes: int) -> str:
    """A warning that no zero-shot accuracy is above chance, with the remedy; empty otherwise.

    Args:
        accuracies: of the templates, on the test images.
        images: how many test images there are.
        classes: how many classes there are.
    """
    best = max(accuracies)
    low, high = interval(best, images)
    if images == 0 or low > 1 / classes:
        return ""
    return (
        f"zero-shot is not above chance ({best:.1%}, 95% interval {low:.1%} to {high:.1%} on {images:,} images; chance "
        f"{1 / classes:.1%}): if the model does not know these classes, choose a larger one (section model)"
    )


def shortfall(accuracies: dict[str, float], config: Config) -> str:
    """A sentence about a tuned prompt that is below the plain template, with the remedy; empty otherwise.

    Args:
        accuracies: of a run, by name: shares of the test images; empty for a run that did not come to its end.
        config: the run's.
    """
    tuned, plain = deployed(accuracies), accuracies.get(PLAIN_TEMPLATE, 0.0)
    if tuned >= plain:
        return ""
    limit = next(name for name in ("queries", "seconds", "steps") if getattr(config.budget, name) is not None)
    ways = [f"give more {limit} (--budget.{limit})"]
    if isinstance(config.prompt, ContextOptions) and config.prompt.init == "random":
        ways.append("start from the template (--prompt.init template)")
    if config.validation.deploy != "best":
        ways.append("deploy the best iterate (--validation.deploy best)")
    listed = ", ".join(ways[:-1]) + (f"{',' * (len(ways) > 2)} or " if len(ways) > 1 else "") + ways[-1]
    return f"The tuned prompt is below the plain template ({tuned:.1%} < {plain:.1%}): {listed}"
