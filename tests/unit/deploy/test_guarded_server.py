"""transformers' own server is built behind the guard, or not started."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from qdsft.deploy import guarded_server
from qdsft.deploy.chat_body import body_problem
from qdsft.deploy.request_guard import RequestGuard
from qdsft.deploy.whole_body import WholeBody

pytest.importorskip("fastapi", reason="pip install -e '.[serve]'")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets what transformers' command line would serve."""
    from transformers.cli import transformers
    from transformers.cli.serving import server

    found: list[Any] = []
    monkeypatch.setattr(server, "build_server", lambda *_, **__: "transformers' application")
    monkeypatch.setattr(transformers, "main", lambda: found.append(server.build_server()))
    monkeypatch.setattr(sys, "argv", ["guarded_server", "run", "--port", "1"])
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
    assert isinstance(app._app, WholeBody) and app._app._judge is body_problem
    assert sys.argv == ["transformers", "serve", "run", "--port", "1"]


def test_every_host_without_a_token_is_not_served(built: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guarded_server.HOSTS, "*")
    monkeypatch.delenv(guarded_server.TOKEN, raising=False)
    with pytest.raises(ValueError, match="without a token"):
        guarded_server.main()
    assert not built


def test_another_release_is_not_started(built: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_server, "_BUILDS_HERE", "from .elsewhere import build_server")
    with pytest.raises(SystemExit, match="install the pinned one"):
        guarded_server.main()
    assert not built
