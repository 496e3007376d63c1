"""Package versions and git commit that produced a run."""

from __future__ import annotations

import subprocess
from importlib import metadata

from qdsft.tested_versions import deviations, installed_version

PACKAGES = ("qdsft", "torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "deepspeed")
# A repository's own configuration can name programs that git runs; the working directory may be anybody's.
GIT = ("git", "-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null")


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that affect a result."""
    found = {package: installed_version(package) for package in PACKAGES}
    return {package: version for package, version in found.items() if version is not None}


def untested_versions() -> list[str]:
    """Return the packages in other versions than the tested ones, such as "torch 2.14.1 (tested: 2.13.0)"."""
    try:
        return [str(found) for found in deviations()]
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return []


def git_commit() -> str | None:
    """Return `<commit>` or `<commit>-dirty` of the checkout that the command runs in; None outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = [*GIT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
