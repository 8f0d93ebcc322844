"""Output with names that the terminal's encoding lacks, or that are not valid UTF-8."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zip_ray import api
from zip_ray.artifact.classifier import Prediction
from zip_ray.artifact.scored_test import ScoredTest
from zip_ray.cli.main import main
from zip_ray.config.tree import Config


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_cannot_be_shown_are_escaped(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    def found(*_: object) -> Iterator[Prediction]:
        yield Prediction(Path("caf\udce9.png"), "日本", 0.5, {"日本": 0.5})
        yield Prediction(Path("tea.png"), "tea", 0.25, {"tea": 0.25})

    def evaluated(*_: object) -> ScoredTest:
        scores = np.eye(2, dtype=np.float32)
        return ScoredTest(("日本 \udce9", "tea"), np.array([0, 1]), (0, 1), {"plain template": scores, "tuned": scores})

    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr(api, "classify", found)
    monkeypatch.setattr(api, "evaluate", evaluated)
    monkeypatch.setattr("zip_ray.cli.settings.of_prompt", lambda *_: Config())
    assert main(["classify", "prompt", "images"]) == 0
    assert main(["evaluate", "prompt"]) == 0
    terminal.flush()
    text = terminal.buffer.getvalue().decode(encoding)
    header, first, second, *table = text.splitlines()
    assert header == "path,classname,probability"
    assert first.startswith("caf\\udce9.png,")
    assert second.startswith("tea.png,tea,0.25")
    assert "\\udce9" in "".join(table)
    if encoding == "ascii":
        assert first.startswith("caf\\udce9.png,\\u65e5\\u672c,0.5")
