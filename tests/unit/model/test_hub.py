"""May the token write? Asked of a real server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from qdsft.errors import UserError
from qdsft.model.hub import check_write


class Hub(ThreadingHTTPServer):
    """Answers whoami with what a test puts here."""

    status = 200
    account: dict[str, Any]
    tokens: list[str | None]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        hub: Any = self.server
        hub.tokens.append(self.headers.get("authorization"))
        body = json.dumps(hub.account if hub.status == 200 else {"error": "no"}).encode()
        self.send_response(hub.status if self.path == "/api/whoami-v2" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), Handler)
    server.account, server.tokens = account("write"), []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def account(role: str, **token: Any) -> dict[str, Any]:
    orgs = [{"name": "lab", "roleInOrg": "write"}, {"name": "guests", "roleInOrg": "read"}]
    return {"name": "kim", "orgs": orgs, "auth": {"accessToken": {"role": role, **token}}}


@pytest.mark.parametrize("repo_id", ["kim/model", "lab/model"])
def test_a_writing_token_may_write_to_its_own_and_its_labs_namespace(hub: Hub, repo_id: str) -> None:
    assert check_write(repo_id) == "kim"
    assert hub.tokens == ["Bearer hf_planted"]


def test_a_fine_grained_token_may_write_where_it_says(hub: Hub) -> None:
    scoped = [{"entity": {"type": "user", "name": "kim"}, "permissions": ["repo.content.read", "repo.write"]}]
    hub.account = account("fineGrained", fineGrained={"scoped": scoped})
    assert check_write("kim/model") == "kim"
    with pytest.raises(UserError, match="may not write to lab/model"):
        check_write("lab/model")


@pytest.mark.parametrize(
    ("planted", "repo_id", "message"),
    [
        ({"account": account("read")}, "kim/model", "the token of kim may not write to kim/model"),
        ({}, "guests/model", "may not write to guests/model"),
        ({}, "strangers/model", "may not write to strangers/model"),
        ({"account": {"name": "kim"}}, "kim/model", "may not write"),
        ({"status": 401}, "kim/model", r"refuses the token \(401\)"),
        ({"status": 403}, "kim/model", r"refuses the token \(403\)"),
        ({"status": 503}, "kim/model", "the Hub answers 503 .*; try again later"),
        ({}, "model", "is no repository on the Hub"),
        ({}, "a/b/c", "is no repository on the Hub"),
    ],
)
def test_a_repository_without_write_permission_is_refused(
    hub: Hub, planted: dict[str, Any], repo_id: str, message: str
) -> None:
    for name, value in planted.items():
        setattr(hub, name, value)
    with pytest.raises(UserError, match=message):
        check_write(repo_id)


def test_no_token_and_no_connection_are_told_apart(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("qdsft.model.hub.get_token", lambda: None)
    with pytest.raises(UserError, match="no token for kim/model; set HF_TOKEN"):
        check_write("kim/model")
    monkeypatch.setattr("qdsft.model.hub.get_token", lambda: "hf_planted")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    with pytest.raises(UserError, match="cannot be reached"):
        check_write("kim/model")
