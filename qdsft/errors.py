"""Exceptions that the command line shows without a traceback."""


class UserError(ValueError):
    """Bad input that the user can fix.

    The message is one line: the file, line or key, what is wrong, and the remedy. The command
    line prints it and exits with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class SharedError(UserError):
    """A UserError that every process of a launch raises, so that only the first one prints it."""


class Interrupted(Exception):
    """A signal stopped the training after a checkpoint was saved; `status` is the exit status."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.status = 128 + signal_number
