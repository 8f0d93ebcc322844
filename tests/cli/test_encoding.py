"""Output with names that the terminal's encoding lacks, or that are not UTF-8."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from zip_ray import api
from zip_ray.artifact.classifier import Prediction
from zip_ray.cli.main import main
from zip_ray.config.tree import Config


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_cannot_be_shown_are_escaped(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    def found(*_: object) -> Iterator[Prediction]:
        yield Prediction(Path("caf\udce9.png"), "日本", 0.5, {})
        yield Prediction(Path("tea.png"), "tea", 0.25, {})

    def evaluated(*_: object) -> dict[str, float]:
        return {"日本 \udce9": 0.5}

    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr(api, "classify", found)
    monkeypatch.setattr(api, "evaluate", evaluated)
    monkeypatch.setattr("zip_ray.cli.settings.of_prompt", lambda *_: Config())
    assert main(["classify", "prompt", "images"]) == 0
    assert main(["evaluate", "prompt"]) == 0
    terminal.flush()
    text = terminal.buffer.getvalue().decode(encoding)
    first, second, *table = text.splitlines()
    assert first.startswith("caf\\udce9.png\t")
    assert second == "tea.png\ttea\t0.2500"
    assert "\\udce9" in "".join(table)
    if encoding == "ascii":
        assert first == "caf\\udce9.png\t\\u65e5\\u672c\t0.5000"
