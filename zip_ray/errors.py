"""Errors that a user can correct: bad input, and a folder that cannot be written to."""


class InputError(Exception):
    """Bad input: a config, a file, a model or a cluster that cannot be used as asked.

    The message is one line that names the field or file, the value and the remedy. `zip-ray` prints it
    without a traceback and exits with code 2; nothing has been written when it is raised.
    """


class OutputError(Exception):
    """A run folder that cannot be written to; its files are kept, and the run can be resumed once there is space."""


def one_line(error: Exception) -> str:
    """An error of any library as one line: its class and its message, at most 200 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
