"""A port for a test's server."""

from __future__ import annotations

import socket


def free_port() -> int:
    """One on which nothing listens now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
        return number
