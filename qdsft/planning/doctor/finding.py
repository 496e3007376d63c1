"""The result of one check of the machine. It never contains a secret, and a check that fails does not stop others."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from qdsft.environment import variable
from qdsft.errors import UserError, reason

SECRET_NAMES = re.compile(r"(TOKEN|SECRET|PASSWORD|KEY)$", re.IGNORECASE)
HUB_TOKEN = re.compile(r"hf_\w{6,}")
SHORTEST_SECRET = 6
"""Shorter values could be part of any text: HF_TOKEN=1 would hide every 1."""


@dataclass(frozen=True)
class Finding:
    """One line: what was checked, the result, and the remedy if something is wrong.

    `note` means that something works less well, or not on this machine. Only `failed` is a reason not to train.
    """

    name: str
    status: Literal["ok", "note", "failed"]
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the finding as `--json` prints it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.found}; {self.remedy}" if self.remedy else self.found


Look = Callable[[], Finding]


def look_safely(name: str, look: Look) -> Finding:
    """Return the finding without secrets, or a failed finding if the check itself raises anything."""
    try:
        finding = look()
    except UserError as error:
        finding = Finding(name, "failed", str(error))
    except (Exception, SystemExit) as error:  # a broken installation can raise anything
        kind, said = type(error).__name__, reason(error)
        finding = Finding(name, "failed", said if said == kind else f"{kind}: {said}", "reinstall with make setup")
    secrets = known_secrets()
    return Finding(name, finding.status, *(_without(secrets, text) for text in (finding.found, finding.remedy)))


def within(seconds: float, look: Look, late: Finding) -> Finding:
    """Return the finding, or `late` if the check takes longer; its daemon thread ends with this process."""
    result: list[Finding | BaseException] = []

    def work() -> None:
        try:
            result.append(look())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not result:
        return late
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def known_secrets() -> list[str]:
    """Return the values of variables that are named like secrets, and the content of the Hub's token file."""
    values = [value for name, value in os.environ.items() if SECRET_NAMES.search(name)]
    home = Path(variable("HF_HOME") or Path.home() / ".cache" / "huggingface")
    with suppress(OSError, UnicodeDecodeError):
        values.append(Path(variable("HF_TOKEN_PATH") or home / "token").read_text(encoding="utf-8"))
    return sorted({value.strip() for value in values if len(value.strip()) >= SHORTEST_SECRET}, key=len, reverse=True)


def _without(secrets: list[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return HUB_TOKEN.sub("***", " ".join(text.split()))
