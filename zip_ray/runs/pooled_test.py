"""A tuned prompt on test images, scored by the actors of a pool as in the test of a run."""

import numpy as np

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, TunedPrompt
from zip_ray.errors import InputError
from zip_ray.pool.asking import TESTED_TOGETHER, Waiting, ask_all, silently, tested_parts
from zip_ray.pool.contract import Pool
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.messages import Evaluation, EvaluationResult
from zip_ray.protocol.readout import apply


def score_on_pool(prompt: TunedPrompt, pool: Pool, tested: Waiting = silently) -> dict[str, Float32]:
    """Logits of the test images of the pool's task, shape (n, classes), by name: of the plain template, of the tuned
    prompt, with its readout if it has one that was fitted to these classes.

    Args:
        prompt: the tuned prompt.
        pool: of actors that have its model and the task.
        tested: called at intervals, for each prompt from 0 on, with the images that are done and how many there are.

    Raises:
        InputError: the actors' model is not the one that the prompt was tuned on.
        PoolError: as the pool does.
    """
    facts = pool.facts()
    if facts.weights_digest != prompt.card.weights_digest:
        raise InputError("model: the actors' weights differ from those that the prompt was tuned on: give that model")
    images = facts.images["test"]
    parts = tested_parts(images)

    def scores(asked: str | Prompt) -> Float32:
        works = [Evaluation("test", asked, part, scores=True) for part in parts]

        def meanwhile(done: int, _total: int) -> None:
            tested(min(done * TESTED_TOGETHER, images), images)

        found = ask_all(pool, works, EvaluationResult, meanwhile)
        return np.concatenate([one.scores for one in found if one.scores is not None])

    made = {PLAIN_TEMPLATE: scores(facts.template), TUNED: scores(prompt.prompt)}
    readout = prompt.readout
    if readout is not None and prompt.has_readout_for(facts.classnames):
        order = [facts.classnames.index(name) for name in prompt.card.classnames]
        every = [made[TUNED], *map(scores, readout.prompts)]
        made[READ_OUT] = np.empty_like(made[TUNED])
        made[READ_OUT][:, order] = apply(readout, [one[:, order] for one in every])
    return made
