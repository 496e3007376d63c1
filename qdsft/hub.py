"""The Hub: may we write there?"""

from __future__ import annotations

import os
from typing import Any

import httpx2
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from qdsft.errors import UserError

WRITING = ("repo.write", "repo.content.write")


def check_write(repo_id: str) -> str:
    """The user whose token may write to `repo_id`; nothing is created.

    Raises UserError, with the remedy, if there is no token, if the Hub refuses it or cannot be reached, or if the
    token may not write to that namespace.
    """
    namespace, slash, name = repo_id.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise UserError(f"{repo_id!r} is no repository on the Hub; write user/name")
    if get_token() is None:
        raise UserError(f"no token for {repo_id}; set HF_TOKEN to one that may write, or remove publish.hub_model_id")
    try:
        account = HfApi(endpoint=os.environ.get("HF_ENDPOINT")).whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise UserError(f"the Hub refuses the token ({status}); set HF_TOKEN to a valid one that may write") from error
    except (OSError, RuntimeError, ValueError, httpx2.HTTPError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"the Hub cannot be reached ({first[:120]}); mend the connection or train offline") from error
    if not _may_write(account, namespace):
        raise UserError(
            f"the token of {account.get('name')} may not write to {repo_id}; make one with write access, or correct "
            "publish.hub_model_id"
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
