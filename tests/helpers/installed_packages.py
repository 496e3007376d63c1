"""Pretend that other versions of packages are installed beside this checkout's requirements."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import pytest
from helpers.paths import ROOT

from qdsft.tested_versions import pinned_versions

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def install_packages(monkeypatch: pytest.MonkeyPatch, versions: Mapping[str, str | None]) -> None:
    """Install the tested version of every required package but those in `versions`; None is not installed."""
    project = PROJECT["project"]
    lines = list(project["dependencies"])
    for extra, packages in project["optional-dependencies"].items():
        for line in packages:
            package, semicolon, marker = line.partition(";")
            lines.append(f"{package}; {f'({marker}) and ' if semicolon else ''}extra == {extra!r}")

    def version(name: str) -> str:
        found = {**pinned_versions(), **versions}.get(name.lower().replace("_", "-"))
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    monkeypatch.setattr(metadata, "version", version)
