"""The command `zip-ray`: reads a line, runs its command, and reports errors that the user can correct in one line."""

import contextlib
import difflib
import functools
import inspect
import io
import logging
import os
import sys
import warnings
from typing import Any, NoReturn

import tyro

from zip_ray import __version__
from zip_ray.cli import settings
from zip_ray.cli.commands import COMMANDS
from zip_ray.cli.flags import RUN, SHORT_FORMS, with_pairs_joined
from zip_ray.cli.help_page import command_page, top_page
from zip_ray.cli.printing import INTERRUPTED, parse_failure
from zip_ray.config.old_names import refuse_old_names
from zip_ray.config.tree import Config
from zip_ray.errors import InputError, OutputError
from zip_ray.pool.contract import PoolError

HELP = ("-h", "--help")
PARSING = (tyro.conf.PositionalMetavarFromFieldName,)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; the exit code: 0 done, 1 the run or a check failed, 2 bad input, 130 interrupted.

    Args:
        arguments: the line; that of this process where absent.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # names that the terminal's encoding lacks; stderr does so too
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # A warning in one line, as errors are; the line of source code that issued it would not help.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # to import `module:Name`: the sys.path[0] of an installed command is its own folder
    try:
        return _run([_at_home(argument) for argument in (sys.argv[1:] if arguments is None else arguments)])
    except InputError as error:
        _fail(str(error))
    except (OutputError, PoolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `head` closed the pipe of `zip-ray ... | head`; Python would flush again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in HELP:
        print(top_page(COMMANDS))
        return 0
    if arguments == ["--version"]:
        print(f"zip-ray {__version__}")
        return 0
    name, rest = _split(arguments)
    if COMMANDS[name].paths is RUN:
        settings.introduce(rest)
    if any(argument in HELP for argument in rest):
        print(command_page(name, COMMANDS[name], _config_of_help(name, [one for one in rest if one not in HELP])))
        return 0
    return COMMANDS[name].run(**bound(name, rest))


def bound(name: str, arguments: list[str]) -> dict[str, Any]:
    """The parameters of a command, by name, that a line gives.

    Raises:
        InputError: the line cannot be read.
    """
    run = COMMANDS[name].run

    @functools.wraps(run)
    def bind(*args: object, **kwargs: object) -> dict[str, Any]:
        return inspect.signature(run).bind(*args, **kwargs).arguments

    _require_options(name, arguments)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            line = with_pairs_joined(arguments)
            return tyro.cli(bind, prog=f"zip-ray {name}", args=line, add_help=False, config=PARSING)
    except SystemExit as error:
        raise InputError(parse_failure(complaint.getvalue(), name)) from error


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """The command that a line names, of one word or two, and the rest.

    Raises:
        InputError: there is no such command.
    """
    for words in (2, 1):
        if (name := " ".join(arguments[:words])) in COMMANDS:
            return name, arguments[words:]
    asked = (" ".join(arguments[:2]), arguments[0])
    near = [name for words in asked for name in difflib.get_close_matches(words, COMMANDS, 1)]
    meant = f"did you mean zip-ray {near[0]}?" if near else f"choose {', '.join(COMMANDS)} (see zip-ray --help)"
    raise InputError(f"'{arguments[0]}' is not a command: {meant}")


def _config_of_help(name: str, arguments: list[str]) -> Config:
    """The values that the options of a command start from, as far as the line can be parsed."""
    start = COMMANDS[name].start
    if start is None:
        return Config()
    with contextlib.suppress(InputError):
        return start(*_first_two(bound(name, arguments)))
    with contextlib.suppress(InputError):
        _, given = _first_two(bound(name, [*arguments, "-"]))
        return settings.of_file(None, given)
    return Config()


def _first_two(parameters: dict[str, Any]) -> tuple[Any, Any]:
    """The positional, if there is one, and the config's given values."""
    return parameters.get(next(iter(parameters))), parameters["given"]


def _require_options(name: str, arguments: list[str]) -> None:
    """Refuse unknown options of a command, before the parser reads their values as positionals.

    Raises:
        InputError: gives the new name of an old option, the sections that the command takes, or a similar option.
    """
    command = COMMANDS[name]
    known = {*command.options, *inspect.signature(command.run).parameters} - {"given"}
    for argument in arguments:
        word = argument.partition("=")[0]
        if not word.startswith("--"):
            continue
        path = SHORT_FORMS.get(word, word[2:].replace("-", "_"))
        if path in known or path.replace(".no_", ".") in known:
            continue
        refuse_old_names([path, path.replace(".no_", ".")])
        raise InputError(f"{word}: not an option of `zip-ray {name}`: {_hint(name, path, known)}")


def _hint(name: str, path: str, known: set[str]) -> str:
    sections = sorted({option.partition(".")[0] for option in COMMANDS[name].options})
    if path in RUN() and sections:
        return "it has no effect there" if path.partition(".")[0] in sections else f"it takes {', '.join(sections)}"
    if path.startswith("no_") and path[3:] in known:  # `no-` stands before the field, not before its section
        section, _, field = path[3:].partition(".")
        return f"did you mean --{section}.no-{field.replace('_', '-')}?"
    near = difflib.get_close_matches(path, known, 1)
    return f"did you mean --{near[0].replace('_', '-')}?" if near else f"see zip-ray {name} --help"


def _at_home(argument: str) -> str:
    """An argument with `~` expanded, which a shell does not do if it is quoted or follows `=`."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{option}{equals}{os.path.expanduser(value)}"


def _fail(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
