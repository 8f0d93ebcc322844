"""The folder of a run: its config, its lock, and the message when it cannot be written to."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zip_ray.config.merging import Tree
from zip_ray.config.reading import SCHEMA, VERSION, config_tree, validate
from zip_ray.config.secrets import without_secrets
from zip_ray.config.tree import Config
from zip_ray.config.writing import to_yaml
from zip_ray.errors import InputError, OutputError
from zip_ray.files import lock, write_whole
from zip_ray.runs import next_command

CONFIG = "config.yaml"
LOCK = "lock"
"""Lock file, held by the driver while it runs."""


def run_config(folder: Path) -> Config:
    """The config of a run, as it was started or last resumed.

    Raises:
        InputError: not the folder of a run, or its config is damaged.
    """
    return validate(run_tree(folder), str(folder / CONFIG))


def run_tree(folder: Path) -> Tree:
    """The same as plain values.

    Raises:
        InputError: not the folder of a run, one of an earlier version, or its config is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder}: no {CONFIG}: give the folder of a run that `zip-ray tune` made, which it does when the "
            "first actor has loaded its model"
        )
    return config_tree(folder / CONFIG, written=True)


def how_to_resume(folder: Path, config: Config) -> str:
    """The command that continues a run from its folder, or from its copy if a Ray job's folder has been deleted."""
    copy = f", or {without_secrets(config.output.remote)} if that is gone" if config.output.remote else ""
    return f"{next_command.resume(folder)}{copy}"


@contextmanager
def needing_room(folder: Path, config: Config) -> Iterator[None]:
    """Report an error of the disk with its remedy.

    Raises:
        OutputError: the disk reported an error.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder}: {error.strerror}; existing files are kept: free space, then "
            f"{how_to_resume(folder, config)}"
        ) from error


def create(folder: Path, config: Config) -> Path:
    """Make the folder, with its config; if that fails, remove it again. A default that another run has just taken gets
    a number.

    Raises:
        InputError: it cannot be made.
        OutputError: the disk is full.
    """
    wanted, number = folder, 1
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except OSError as error:
            if config.output.dir is not None or not isinstance(error, FileExistsError) or not folder.exists():
                raise InputError(f"output.dir: '{folder}' cannot be made ({error.strerror}): choose another") from error
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
    try:
        with removed_on_error(folder):
            write_config(folder, config)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; nothing was started: free space, or choose another") from error
    return folder


@contextmanager
def removed_on_error(folder: Path) -> Iterator[None]:
    """Remove the folder if the block fails or is interrupted."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_config(folder: Path, config: Config) -> None:
    """Write config.yaml.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(folder / CONFIG, f"{SCHEMA}: {VERSION}\n{to_yaml(config)}".encode())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder, since two drivers would corrupt each other's files.

    Raises:
        InputError: another process has locked it.
        OutputError: it cannot be written to.
    """
    try:
        opened = (folder / LOCK).open("w")
    except OSError as error:
        raise OutputError(f"{folder / LOCK}: {error.strerror}: give a folder that can be written to") from error
    with opened as file:
        if not lock(file):
            raise InputError(f"{folder}: in use by another process: wait for it, or stop it first")
        yield
