"""Plain English in prose: "per" for rates, and machines that are not persons. True exceptions are listed."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import check_each
from tests.support.paths import ROOT

FOLDERS = ("zip_ray", "actors", "configs", "tests", "benchmarks", "tools", "examples", "docs")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "NOTICES.md")

MANY = (
    "steps|classes|queries|seconds|passes|rounds|images|pairs|epochs|nodes|words|tokens|prompts|seeds|calls|updates"
    "|shards|points|samples|shots|messages|results|candidates|directions|requests|ms|bytes|MiB|GiB"
)
ONE = (
    "step|class|query|second|minute|hour|pass|round|actor|image|pair|epoch|run|node|machine|GPU|core|token|prompt|seed"
    "|call|update|shard|batch|mini-batch|point|request|driver|process|individual|generation"
)
PER = re.compile(rf"\b(?:{MANY}|once|twice|times|(?:1|one) (?:{ONE})) an? (?:{ONE})\b")
PERSONS = re.compile(
    r"\b(?:who|whom|nobody|somebody|anybody|everybody|no one|knows|knew|tells|told (?:to|of)|lives|lived|hears|heard"
    r"|dies|speaks|begs|sign of life|its last word)\b",
    re.IGNORECASE,
)
EXCEPTIONS = (
    r"(?:people|persons?|users?|readers?|authors?|someone|anyone) who",  # these are persons
)
"""Phrases that are allowed."""


def prose(path: Path) -> Iterator[str]:
    """The prose of a file: comments and strings of Python, comments of YAML and shell, the whole of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if tokenize.tok_name[token.type] in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
                yield token.string
    elif path.suffix == ".md":
        yield text
    else:
        yield "\n".join(re.findall(r"#(.*)", text))


def faults(text: str) -> list[str]:
    """The forbidden phrases of a text, with their surroundings."""
    words = " ".join(text.split())
    for exception in EXCEPTIONS:
        words = re.sub(exception, "", words, flags=re.IGNORECASE)
    found = [*PER.finditer(words), *PERSONS.finditer(words)]
    return [words[max(0, one.start() - 30) : one.end() + 30] for one in found]


def is_plain(path: Path) -> None:
    found = [fault for text in prose(path) for fault in faults(text)]
    assert not found, found


def test_the_whole_project_is_in_plain_english() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.name != Path(__file__).name]
    check_each(
        [ROOT / page for page in PAGES] + [path for path in files if path.suffix in (".py", ".md", ".yaml", ".sh")],
        is_plain,
    )


@pytest.mark.parametrize(
    "text",
    ["ten queries a second", "encoded once a pass", "5 pairs a\nstep", "Nobody is there yet.", "an actor who fails"],
)
def test_the_check_finds_what_it_should(text: str) -> None:
    assert faults(text)


def test_the_check_lets_true_sentences_pass() -> None:
    assert not faults("a user who tunes ten queries per second; queries and a step; the scorer splits classes; a pass")
