"""Access to the Hub: check write permission, and retry after transient errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from qdsft.console import say
from qdsft.environment import variable
from qdsft.errors import UserError, reason

WRITING = ("repo.write", "repo.content.write")
WAITS: tuple[float, ...] = (1, 2, 4, 8, 16)
"""Seconds before each retry."""
TRANSIENT = {409, 412, 429}
REFUSALS = {
    401: "the token is not valid; set HF_TOKEN to one that may write to {repo}",
    403: "the token may not write to {repo}; make one with write access, or give another --repo-id",
    404: "there is no {repo}, or no such revision, that this token can see; correct --repo-id or --revision",
}

T = TypeVar("T")


def check_write(repo_id: str) -> str:
    """Return the user whose token may write to `repo_id`; nothing is created.

    Raises UserError, with the remedy, if there is no token, if the Hub refuses it or cannot be reached, or if the
    token may not write to that namespace.
    """
    namespace, slash, name = repo_id.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise UserError(f"{repo_id!r} is no repository on the Hub; write user/name")
    if get_token() is None:
        raise UserError(f"no token for {repo_id}; set HF_TOKEN to one that may write")
    try:
        account = HfApi(endpoint=variable("HF_ENDPOINT") or None).whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        if isinstance(status, int) and status >= 500:
            raise UserError(f"the Hub answers {status} when asked for the token's owner; try again later") from error
        raise UserError(f"the Hub refuses the token ({status}); set HF_TOKEN to a valid one that may write") from error
    except (OSError, RuntimeError, ValueError, httpx2.HTTPError) as error:
        raise UserError(f"the Hub cannot be reached ({reason(error)}); check the connection and try again") from error
    if not _may_write(account, namespace):
        raise UserError(
            f"the token of {account.get('name')} may not write to {repo_id}; make one with write access, or correct "
            "the name"
        )
    return str(account.get("name"))


def _may_write(account: dict[str, Any], namespace: str) -> bool:
    organizations = {entry.get("name"): entry.get("roleInOrg") for entry in account.get("orgs") or []}
    own = account.get("name") == namespace
    if not own and organizations.get(namespace, "read") == "read":
        return False
    token = (account.get("auth") or {}).get("accessToken") or {}
    if token.get("role") != "fineGrained":
        return token.get("role") == "write"
    scopes = (token.get("fineGrained") or {}).get("scoped") or []
    return any(
        (scope.get("entity") or {}).get("name") == namespace and set(WRITING) & set(scope.get("permissions") or [])
        for scope in scopes
    )


def patiently(doing: str, repo_id: str, call: Callable[[], T]) -> T:
    """Call the Hub, and retry after each of WAITS if the error is transient.

    Transient are a broken connection, 5xx, 429 (too many requests), and 409 and 412 (another client wrote at the same
    time). huggingface_hub retries uploads of large files itself, but not these calls. Each retry is printed. Raises
    UserError, with the remedy, for other errors and after the last retry.
    """
    for wait in (*WAITS, None):
        try:
            return call()
        except (HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            status = _status(error)
            if status in REFUSALS:
                raise UserError(
                    f"{doing}: the Hub answers {status}: {REFUSALS[status].format(repo=repo_id)}"
                ) from error
            if isinstance(error, ValueError) and status is None:
                raise UserError(f"{doing}: {reason(error)}") from error
            if status is not None and status < 500 and status not in TRANSIENT:
                raise UserError(
                    f"{doing}: the Hub answers {status} ({reason(error)}); correct this and push again"
                ) from error
            said = f"the Hub answers {status}" if status else f"the connection broke ({reason(error)})"
            if wait is None:
                raise UserError(
                    f"{doing}: {said}, {len(WAITS) + 1} times; push again later, what is uploaded stays"
                ) from error
            say(f"{doing}: {said}; trying again in {wait:g} s")
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status of an error or of its causes; None without one."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__
    return None
