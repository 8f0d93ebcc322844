"""The tasks that need no data from the user: the real digits and the rendered ones."""

from zip_ray.tasks.builtin import digits, rendered
from zip_ray.tasks.builtin.question_texts import QUESTIONS
from zip_ray.tasks.few_shot import VALIDATION_SHOTS
from zip_ray.tasks.images import ArrayImages
from zip_ray.tasks.source import Source

POOL_DRAWS = 4
"""Size of a rendered task's pool, in draws, so that seeds share few images and deviate realistically."""


def built_in(name: str, test_set: str, shots: int) -> Source:
    """A task of `BUILT_IN`, with one of its test sets and a pool to draw that many shots from."""
    if name == "digits":
        pool, test = digits.digits(test_set)
        return Source(digits.CLASSNAMES, digits.TEMPLATES, test, pool, questions=QUESTIONS[name])
    task = rendered.TASKS[name]
    pool = ArrayImages(*rendered.render_split(task, "pool", POOL_DRAWS * (shots + VALIDATION_SHOTS)))
    test = ArrayImages(*rendered.render_split(task, test_set, rendered.TEST_IMAGES))
    return Source(task.classnames, task.templates, test, pool, questions=QUESTIONS[name])
