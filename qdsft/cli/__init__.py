"""The command line: one module per command. A handler imports its stage itself, so that light commands stay light."""

from qdsft.cli.main import main

__all__ = ["main"]
