"""Optional packages: whether they are installed, and the command that installs them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from qdsft.errors import UserError, reason


@dataclass(frozen=True)
class Package:
    """A package that some features require."""

    module: str
    """The module to import."""
    name: str
    """The name that pip knows, with the range of versions if only some work."""
    extra: str = ""
    """The extra of pyproject.toml that installs the package; "" if there is none."""

    @property
    def is_installed(self) -> bool:
        """Return whether the module can be found, in a version that works."""
        from packaging.requirements import Requirement

        if find_spec(self.module) is None:
            return False
        requirement = Requirement(self.name)
        try:
            return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
        except metadata.PackageNotFoundError:  # a module of a distribution with another name
            return True

    @property
    def installation(self) -> str:
        """Return the command that installs the package."""
        return install_command(self.extra) if self.extra else f"pip install {shlex.quote(self.name)}"


def import_problem(module: str) -> str | None:
    """Return why an installed module cannot be imported; None if it can.

    A package that was built for another release of torch is found, and fails only here.
    """
    try:
        import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # such as a symbol that another torch has
        return reason(error)
    return None


def require(extra: str, user: str, *modules: str) -> None:
    """Raise UserError, with the command that installs the extra, unless all its modules can be imported."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise UserError(f"{user} requires {', '.join(missing)}; install with: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Return the pip command that installs an extra.

    qdsft is not on PyPI. In a checkout the command names its folder; for a wheel it lists the packages of the extra.
    """
    root = Path(__file__).parents[1]
    if (root / "pyproject.toml").is_file():
        place = "." if root == Path.cwd() else str(root)
        return f"pip install -e {shlex.quote(f'{place}[{extra}]')}"
    return f"pip install {' '.join(map(shlex.quote, _packages_of(extra)))}"


def _packages_of(extra: str) -> list[str]:
    """Return the requirements of an extra of the installed qdsft, such as "gradio<7,>=6.31"."""
    from packaging.requirements import Requirement

    found = []
    for line in metadata.requires("qdsft") or []:
        requirement = Requirement(line)
        if requirement.marker and requirement.marker.evaluate({"extra": extra}) and not requirement.marker.evaluate():
            found.append(f"{requirement.name}{requirement.specifier}")
    return found or [f"qdsft[{extra}]"]
