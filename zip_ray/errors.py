"""What a user can mend: a mistake of input, and a folder that takes no more."""


class InputError(Exception):
    """Bad input: a config, a file, a model or a cluster that cannot be used as asked.

    The message is one line that names the field or file, the value and the remedy. `zip-ray` prints it
    without a traceback and exits with code 2; nothing has been written when it is raised.
    """


class OutputError(Exception):
    """A run folder that cannot be written to: what is there stands, and the run can be resumed when there is room."""
