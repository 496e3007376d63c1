"""A port, taken before anything slow is done, and the address that a browser or client is told."""

from __future__ import annotations

import os
import socket

from qdsft.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """A socket that holds the port, before any weights are loaded; raises UserError if that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"--host {host}: {error.strerror or error}; give 127.0.0.1 or 0.0.0.0") from error
    try:
        if os.name != "nt":  # where it would take a port away from whoever has it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"{host}:{port}: nothing can listen there ({error.strerror or error}); give another --port or --host"
        ) from error
    return listener


def reachable(host: str) -> str:
    """The name to ask at, in a URL, for an address to listen at."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
