"""Run transformers' server behind `RequestGuard`:

    python -m qdsft.deploy.guarded_server RUN_DIR [--constrained] [--only-decompositions] -- NAME --host ... --port ...

NAME and what follows are the arguments of `transformers serve`.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from functools import partial
from pathlib import Path
from typing import Any

from qdsft.deploy.chat_body import body_problem
from qdsft.deploy.request_guard import RequestGuard
from qdsft.deploy.request_queue import RequestQueue
from qdsft.deploy.whole_body import WholeBody
from qdsft.environment import variable
from qdsft.errors import UserError

HOSTS, TOKEN = "QDSFT_SERVE_HOSTS", "QDSFT_SERVE_TOKEN"
"""Environment variables: host names with commas between them, or * for every name; and the token, if one is needed."""
ANY_HOST = "*"
BATCHES = "--continuous-batching"
FIXED = f"{BATCHES} decodes without a grammar; serve without it"
_BUILDS_HERE = "from .serving.server import build_server"
_RESOLVES = "model_id, model, processor = self._resolve_model(body)"


def main() -> None:
    """Run the command line of `transformers serve` with a guarded application. Exits if that cannot be guarded."""
    from transformers.cli import serve, transformers
    from transformers.cli.serving import server
    from transformers.cli.serving.chat_completion import ChatCompletionHandler

    from qdsft.deploy.chat_handler import apply_rules

    handles = inspect.getsource(ChatCompletionHandler.handle_request)
    if _BUILDS_HERE not in inspect.getsource(serve.Serve.__init__) or _RESOLVES not in handles:
        sys.exit("error: this release of transformers builds its server in another way; install the pinned one")
    start = sys.argv.index("--")
    given = sys.argv[start + 1 :]
    rules = _rules(sys.argv[1:start], given)
    hosts, token = variable(HOSTS), variable(TOKEN) or None
    known = None if hosts == ANY_HOST else frozenset(hosts.split(","))
    build = server.build_server

    def guarded(model_manager: Any, chat_handler: Any, *arguments: Any, **options: Any) -> Any:
        apply_rules(chat_handler, rules)
        queue = RequestQueue(build(model_manager, chat_handler, *arguments, **options))
        whole = WholeBody(queue, judge=partial(body_problem, rules=rules))
        return RequestGuard(whole, model=given[0], hosts=known, token=token)

    server.build_server = guarded  # type: ignore[assignment]  # in this process alone, which ends with the server
    sys.argv = ["transformers", "serve", *given]
    transformers.main()


def _rules(own: list[str], given: list[str]) -> Any:
    from qdsft.deploy.chat_rules import Answers, ChatRules
    from qdsft.inference.loaded_run import load_prompts

    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--constrained", action="store_true")
    parser.add_argument("--only-decompositions", action="store_true")
    options = parser.parse_args(own)
    try:
        run = load_prompts(options.run_dir, trust_remote_code="--trust-remote-code" in given)
        return ChatRules(
            run, Answers(options.constrained, options.only_decompositions), fixed=FIXED if BATCHES in given else ""
        )
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
