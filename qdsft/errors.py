"""The one exception that is shown to users without a traceback."""


class UserError(ValueError):
    """Bad input that the user can mend.

    The message is one line: the file, line or key, what is wrong, and the remedy. The command
    line prints it and exits with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
