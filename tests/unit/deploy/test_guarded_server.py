"""transformers' own server is built behind the guard, or not started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_run import make_run

from qdsft.deploy import guarded_server
from qdsft.deploy.chat_body import body_problem
from qdsft.deploy.request_guard import RequestGuard
from qdsft.deploy.request_queue import RequestQueue
from qdsft.deploy.whole_body import WholeBody

pytest.importorskip("fastapi", reason="pip install -e '.[serve]'")


class Handler:
    """Stands for transformers' handler of chat requests."""

    def _resolve_model(self, body: dict[str, Any]) -> tuple[str, Any, Any]:
        return "run", None, None


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path], tmp_path: Path) -> list[Any]:
    """Return a list that gets what transformers' command line would serve."""
    from transformers.cli import transformers
    from transformers.cli.serving import server

    found: list[Any] = []
    monkeypatch.setattr(server, "build_server", lambda *_, **__: "transformers' application")
    monkeypatch.setattr(transformers, "main", lambda: found.append(server.build_server(None, Handler())))  # type: ignore[arg-type, call-arg]
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    monkeypatch.setattr(sys, "argv", ["guarded_server", str(run_dir), "--constrained", "--", "run", "--port", "1"])
    return found


@pytest.mark.parametrize(
    ("hosts", "token", "known"),
    [
        ("localhost,127.0.0.1", "", frozenset({"localhost", "127.0.0.1"})),
        ("*", "secret", None),
        ("", "", frozenset({""})),
    ],
)
def test_the_application_is_guarded(
    built: list[Any], monkeypatch: pytest.MonkeyPatch, hosts: str, token: str, known: Any
) -> None:
    monkeypatch.setenv(guarded_server.HOSTS, hosts)
    monkeypatch.setenv(guarded_server.TOKEN, token)
    guarded_server.main()
    (app,) = built
    assert isinstance(app, RequestGuard) and (app._hosts, app._token) == (known, token or None)
    assert isinstance(app._app, WholeBody) and isinstance(app._app._app, RequestQueue)
    judge: Any = app._app._judge
    assert judge.func is body_problem and judge.keywords["rules"].constrains({})
    assert sys.argv == ["transformers", "serve", "run", "--port", "1"]


def test_every_host_without_a_token_is_not_served(built: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guarded_server.HOSTS, "*")
    monkeypatch.delenv(guarded_server.TOKEN, raising=False)
    with pytest.raises(ValueError, match="without a token"):
        guarded_server.main()
    assert not built


@pytest.mark.parametrize("name", ["_BUILDS_HERE", "_RESOLVES"])
def test_another_release_is_not_started(built: list[Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(guarded_server, name, "from .elsewhere import build_server")
    with pytest.raises(SystemExit, match="install the pinned one"):
        guarded_server.main()
    assert not built


def test_a_run_that_cannot_be_loaded_is_one_line(built: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["guarded_server", "/nowhere", "--", "run"])
    with pytest.raises(SystemExit, match="error: /nowhere"):
        guarded_server.main()
