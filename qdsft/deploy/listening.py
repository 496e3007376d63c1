"""Check that a port is free before anything slow starts, and name the address for browsers and clients."""

from __future__ import annotations

import os
import socket

from qdsft.errors import UserError

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1", "[::1]")
"""Names of this machine for itself, as they stand in a request's Host header."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the port; raises UserError if that is not possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"--host {host}: {error.strerror or error}; give 127.0.0.1 or 0.0.0.0") from error
    try:
        if os.name != "nt":  # on Windows it would take a port away from the process that has it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"{host}:{port}: nothing can listen there ({error.strerror or error}); give another --port or --host"
        ) from error
    return listener


def refuse_open_server(*, is_open: bool) -> None:
    """Raise UserError for --trust-remote-code with a server that other machines can reach."""
    if is_open:
        raise UserError(
            "--trust-remote-code: code of a model does not run in a server that others can reach; leave the option "
            "out, or serve on --host 127.0.0.1"
        )


def reachable(host: str) -> str:
    """Return the host name in the URL of a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
