"""Exceptions that the command line shows without a traceback."""

LONGEST_WORD = 400
"""Characters of a name or path that a message quotes."""


class UserError(ValueError):
    """Bad input that the user can fix.

    The message is one line: the file, line or key, what is wrong, and the remedy. The command
    line prints it and exits with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(cut(word, LONGEST_WORD) for word in message.split()))


class SharedError(UserError):
    """A UserError that every process of a launch raises, so that only the first one prints it."""


class Interrupted(Exception):
    """A signal stopped the training after a checkpoint was saved; `status` is the exit status."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.status = 128 + signal_number


def reason(error: BaseException) -> str:
    """Return the first line of a foreign exception's message, or its type if it has none, as MemoryError does."""
    lines = str(error).strip().splitlines()
    return cut(lines[0].rstrip(), 200) if lines else type(error).__name__


def cut(text: str, length: int = 60) -> str:
    """Return a text for a message: at most `length` characters, the end replaced by `...`."""
    return text if len(text) <= length else f"{text[: length - 3]}..."
