"""The message for a lost actor: cause, exit type and node in one short line."""

import pytest
from ray.exceptions import RayActorError

from zip_ray.actors.ray_errors import fault

PLACE = "\tclass_name: ScorerActor\n\tactor_id: 0123\n\tpid: 4321\n\tnamespace: 99\n\tip: 10.0.0.7\n"
KILLED = (
    f"The actor died unexpectedly before finishing this task.\n{PLACE}The actor is dead because its worker process has "
    "died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code "
    "2. End of file. Some common causes include: (1) the process was killed by the OOM killer due to high memory "
    "usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly due to another "
    "error."
)
NODE = f"The actor died unexpectedly.\n{PLACE}The actor died because its node has died. Node Id: 89 ..."


class Died(RayActorError):
    """With Ray's wording."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("text", "said", "blameless"),
    [
        (
            KILLED,
            "actor lost: its process on 10.0.0.7 ended, SYSTEM_ERROR: Worker unexpectedly exits with a connection "
            "error code 2. End of file.",
            False,
        ),
        (NODE, "actor lost: its node on 10.0.0.7 died", True),
        ("The actor is temporarily unavailable.", "actor lost: Died: The actor is temporarily unavailable.", False),
    ],
)
def test_the_cause_of_a_loss(text: str, said: str, blameless: bool) -> None:
    assert fault(Died(text), loading=False) == (said, blameless)
