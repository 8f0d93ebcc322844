"""docs/reference/files.md names every event of the record, and every field of each."""

import re
from dataclasses import fields

from tests.support.paths import ROOT
from zip_ray.runs.event_log import KINDS
from zip_ray.tuning.events import Moment

PAGE = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
COMMON = {field.name for field in fields(Moment)}


def named(part: str) -> set[str]:
    """The fields in the tables of a section of the page."""
    return set(re.findall(r"^\| `(\w+)` \|", part, re.M))


def test_every_event_has_its_fields() -> None:
    intro, *parts = PAGE.partition("## The events of metrics.jsonl")[2].split("\n### ")
    assert named(intro) == {"event", *COMMON}
    found = {part.partition("\n")[0]: named(part) for part in parts}
    assert found == {word: {field.name for field in fields(kind)} - COMMON for word, kind in KINDS.items()}
