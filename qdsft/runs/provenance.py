"""What produced a run: package versions and git commit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from importlib import metadata

PACKAGES = ("qdsft", "torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "deepspeed")


def versions() -> dict[str, str]:
    """Installed versions of the packages that shape a result."""
    result = {}
    for package in PACKAGES:
        try:
            result[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return result


def git_commit() -> str | None:
    """`<commit>` or `<commit>-dirty` of the checkout that the command runs in; None outside of one."""

    def git(*arguments: Sequence[str] | str) -> str:
        command = ["git", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}-dirty" if git("status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError):
        return None
