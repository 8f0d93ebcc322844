"""`coop:NAME`: the data sets of CoOp's and ZIP's protocols, in folders laid out as CoOp's instructions say."""

from collections.abc import Sequence
from pathlib import Path

from zip_ray.errors import InputError
from zip_ray.tasks.coop.data_sets import SETS, CoopSet
from zip_ray.tasks.source import Item, Lists, Source, listed
from zip_ray.tasks.splits import keep_split, located, read_split


def coop(name: str, root: Path) -> Source:
    """A data set by its name, below the data root. A missing split file is made once, and kept.

    Raises:
        InputError: an unknown name, another layout, or an image that is missing or outside of its folder.
    """
    if name not in SETS:
        raise InputError(f"task.name: 'coop:{name}' is unknown: choose one of {', '.join(SETS)}")
    spec = SETS[name]
    folder = root / spec.folder
    if not folder.is_dir():
        remedy = "lay it out as docs/guides/datasets.md says"
        raise InputError(f"task.root: '{root}' has no folder {spec.folder}/: {remedy}")
    lists = _own(spec, folder) if spec.split is None else _split(spec, folder, spec.split)
    return listed(lists, (spec.template,), f"task.root: '{folder}'", published=True)


def _split(spec: CoopSet, folder: Path, name: str) -> Lists:
    other = folder / (spec.other_split or name)
    path = other if other.is_file() else folder / name
    keep_split(path, lambda: _own(spec, folder))
    lists = read_split(path)
    if spec.divided and not lists.test:
        train, val = (_below(spec.divided, part) for part in (lists.train, lists.val))
        lists = Lists(train, val, _own(spec, folder).test)
    return located(lists, folder / spec.images, str(path))


def _below(place: str, items: Sequence[Item]) -> list[Item]:
    return [(f"{place}/{path}", label, classname) for path, label, classname in items]


def _own(spec: CoopSet, folder: Path) -> Lists:
    try:
        return spec.read(folder, folder / spec.images)
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"task.root: '{folder}' is not laid out as docs/guides/datasets.md says ({reason}): unpack it again"
        ) from error
