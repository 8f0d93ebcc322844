"""The configs that travel with zip-ray, by their names: the paths below configs/, without the suffix."""

import itertools
import re
from pathlib import Path

from zip_ray.files import packaged

CONFIGS = packaged("configs")


def find_config(name: str) -> Path:
    """A file relative to the working directory; or else one that ships, by its name or by its path in a clone."""
    path = Path(name)
    places = (path, packaged(name), CONFIGS / f"{name}.yaml")
    return next((place for place in places if place.is_file()), path)


def shipped_configs() -> dict[str, Path]:
    """All configs of runs and suites that ship, by name; those below cluster/ are for Ray's launchers."""
    paths = {path.relative_to(CONFIGS).with_suffix("").as_posix(): path for path in sorted(CONFIGS.rglob("*.yaml"))}
    return {name: path for name, path in paths.items() if not name.startswith("cluster/")}


def purpose(path: Path) -> str:
    """What a shipped config is for: the first sentence below the command that opens it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    text = " ".join(comment[2:])
    return re.split(r"(?<=[.:])\s", text, maxsplit=1)[0].rstrip(".:")
