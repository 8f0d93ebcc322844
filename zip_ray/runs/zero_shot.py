"""Hand-written templates: their accuracy before a run, and the remedy where a tuned prompt ends below it."""

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED
from zip_ray.config.tree import Config
from zip_ray.pool.asking import accuracy_on_test, ask
from zip_ray.pool.contract import Pool
from zip_ray.pool.membership import PoolWatch
from zip_ray.prompts.options import ContextOptions
from zip_ray.protocol.facts import PHOTO, Facts, Split
from zip_ray.protocol.messages import Evaluation, EvaluationResult
from zip_ray.tuning.events import ZeroShot


def evaluate_templates(pool: Pool, facts: Facts, watch: PoolWatch) -> ZeroShot:
    """Test accuracy of the generic template, of the task's plain one, and of the best of the task's and the generic.

    The best is chosen on training and validation images: chosen on test images, its accuracy would be too high.
    """

    def correct(template: str) -> float:
        """Training and validation images that a template classifies correctly."""
        splits: tuple[Split, ...] = ("train", "val")
        found = [ask(pool, Evaluation(split, template), EvaluationResult, watch.look) for split in splits]
        return sum(result.accuracy * result.images for result in found)

    best = max(dict.fromkeys((*facts.templates, PHOTO)), key=correct)
    chosen = {"generic template": PHOTO, PLAIN_TEMPLATE: facts.template, "best template": best}
    tested = {text: accuracy_on_test(pool, text, facts.images["test"], watch.look) for text in {*chosen.values()}}
    return ZeroShot(templates=chosen, test={name: tested[text] for name, text in chosen.items()})


def shortfall(accuracies: dict[str, float], config: Config) -> str:
    """A sentence about a tuned prompt that is below the plain template, with the remedy; empty for any other.

    Args:
        accuracies: of a run, by name: shares of the test images; empty for a run that did not come to its end.
        config: the run's.
    """
    tuned, plain = accuracies.get(TUNED, 0.0), accuracies.get(PLAIN_TEMPLATE, 0.0)
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
