"""Run transformers' server behind `RequestGuard`: `python -m qdsft.deploy.guarded_server RUN --host ... --port ...`."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from qdsft.deploy.chat_body import body_problem
from qdsft.deploy.request_guard import RequestGuard
from qdsft.deploy.whole_body import WholeBody
from qdsft.environment import variable

HOSTS, TOKEN = "QDSFT_SERVE_HOSTS", "QDSFT_SERVE_TOKEN"
"""Environment variables: host names with commas between them, or * for every name; and the token, if one is needed."""
ANY_HOST = "*"
_BUILDS_HERE = "from .serving.server import build_server"


def main() -> None:
    """Run the command line of `transformers serve` with a guarded application. Exits if that cannot be guarded."""
    from transformers.cli import serve, transformers
    from transformers.cli.serving import server

    if _BUILDS_HERE not in inspect.getsource(serve.Serve.__init__):
        sys.exit("error: this release of transformers builds its server in another way; install the pinned one")
    model = sys.argv[1]
    hosts, token = variable(HOSTS), variable(TOKEN) or None
    known = None if hosts == ANY_HOST else frozenset(hosts.split(","))
    build = server.build_server

    def guarded(*arguments: Any, **options: Any) -> Any:
        whole = WholeBody(build(*arguments, **options), judge=body_problem)
        return RequestGuard(whole, model=model, hosts=known, token=token)

    server.build_server = guarded  # type: ignore[assignment]  # in this process alone, which ends with the server
    sys.argv = ["transformers", "serve", *sys.argv[1:]]
    transformers.main()


if __name__ == "__main__":
    main()
