"""The one exception that a user's mistake raises."""


class InputError(Exception):
    """Bad input: a config, a file, a model or a cluster that cannot be used as asked.

    The message is one line that names the field or file, the value and the remedy. `run.py` prints it
    without a traceback and exits with code 2; nothing has been written when it is raised.
    """
