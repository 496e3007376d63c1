"""The package versions that qdsft is tested with, and how the installed ones differ from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

NOT_INSTALLED = "not installed"
_PIN = re.compile(r"([\w.-]+)==([\w.]+)")


@dataclass(frozen=True)
class Deviation:
    """A package that qdsft requires, in another version than the tested one."""

    name: str
    installed: str
    """The installed version, or NOT_INSTALLED."""
    tested: str
    allowed: str
    """The range that qdsft accepts, such as ">=5.23.0,<5.24"."""
    fits: bool
    """Whether the installed version is in that range."""

    def __str__(self) -> str:
        if self.fits:
            return f"{self.name} {self.installed} (tested: {self.tested})"
        return f"{self.name} {self.installed} (required: {self.allowed})"


def deviations() -> list[Deviation]:
    """Return the packages that qdsft requires whose installed version is not the tested one.

    Optional packages are listed if they are installed. Raises PackageNotFoundError if qdsft itself is not installed.
    """
    from packaging.requirements import Requirement

    tested = pinned_versions()
    found: dict[str, Deviation] = {}
    for line in metadata.requires("qdsft") or []:
        requirement = Requirement(line)
        optional = "extra" in str(requirement.marker or "")
        name = _normal(requirement.name)
        if name in found or (requirement.marker and not optional and not requirement.marker.evaluate()):
            continue
        installed = installed_version(requirement.name)
        # A build such as 2.13.0+cpu counts as its release.
        fits = requirement.specifier.contains(installed.partition("+")[0], prereleases=True) if installed else False
        expected = tested.get(name, "")
        if (optional and not installed) or (fits and (installed or "").partition("+")[0] == (expected or installed)):
            continue
        allowed = str(requirement.specifier)
        found[name] = Deviation(requirement.name, installed or NOT_INSTALLED, expected or allowed, allowed, fits)
    return [found[name] for name in sorted(found)]


@cache
def pinned_versions() -> dict[str, str]:
    """Return package -> version of requirements.txt, with normalised names; {} if the file is not there."""
    package = Path(__file__).parent
    for folder in (package, package.parent):
        if (folder / "requirements.txt").is_file():
            text = (folder / "requirements.txt").read_text(encoding="utf-8")
            return {_normal(match[1]): match[2] for match in map(_PIN.match, text.splitlines()) if match}
    return {}


def installed_version(name: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
