"""Hand-written questions: what a generative model is asked where a task has no question of its own."""

from zip_ray.tasks import Task
from zip_ray.tasks.asked_images import QuestionImages
from zip_ray.tasks.images import ImageSet

GENERIC = "What is in the picture? {}"
QUESTIONS = ("What is in the picture?", "What does this image show?", "What is the main thing in this image?")
INSTRUCTION = "Look at the picture and answer the question."
"""Before the questions of single images."""
MOST_LISTED = 30
"""Candidates that a question may list."""


def templates_of(task: Task, question: str | None) -> tuple[str, ...]:
    """Questions of a task with {} for the answer, the plain one first.

    Args:
        task: its own questions come before the general ones; where images have questions, a prompt instructs.
        question: of one's own, or None.
    """
    if asks_for_itself(task.train) or asks_for_itself(task.test):
        general: tuple[str, ...] = (INSTRUCTION,)
    else:
        listed = f"Which of these is in the picture: {', '.join(task.classnames)}?"
        general = task.questions or (*QUESTIONS, *([listed] if len(task.classnames) <= MOST_LISTED else []))
    return tuple(dict.fromkeys(f"{one} {{}}" for one in (*([] if question is None else [question]), *general)))


def asks_for_itself(images: ImageSet) -> bool:
    """Whether each image has a question of its own."""
    return isinstance(images, QuestionImages)
