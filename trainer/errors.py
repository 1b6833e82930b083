"""The base class of errors that the user can correct."""


class UserError(Exception):
    """An error that the user can correct: the message says what is wrong, where, and what to do.

    Sweep files, run specs, results tables, data sets, options and clusters raise subclasses of it. The command
    prints the message and exits with code 2.
    """
