"""The commands that install optional packages, in a checkout and for a wheel."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from helpers.installed_packages import PROJECT, install_packages
from helpers.paths import ROOT
from helpers.source_imports import SOURCES
from packaging.requirements import Requirement

from qdsft import optional_packages
from qdsft.errors import UserError
from qdsft.optional_packages import Package, install_command, require

EXTRAS = PROJECT["project"]["optional-dependencies"]


def pretend_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_packages(monkeypatch, {})
    monkeypatch.setattr(optional_packages, "__file__", str(tmp_path / "site-packages" / "qdsft" / "x.py"))


def test_in_a_checkout_the_command_names_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert install_command("demo") == "pip install -e '.[demo]'"
    monkeypatch.chdir(tmp_path)
    assert install_command("demo") == f"pip install -e '{ROOT}[demo]'"


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - {"all"}))
def test_for_a_wheel_the_command_lists_the_packages(
    extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_wheel(monkeypatch, tmp_path)
    command = install_command(extra)
    for line in map(Requirement, EXTRAS[extra]):
        assert re.search(rf"[ ']{line.name}{re.escape(str(line.specifier))}('|$| )", command)
    assert "torch" not in command.replace("pytorch", "") and "qdsft[" not in command


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    require("demo", "qdsft demo", "json", "pydantic")
    with pytest.raises(UserError) as error:
        require("demo", "qdsft demo", "json", "one_of_nobody", "two_of_nobody")
    expected = f"qdsft demo requires one_of_nobody, two_of_nobody; install with: pip install -e '{ROOT}[demo]'"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("package", "version", "installed"),
    [
        (Package("yaml", "PyYAML"), "6.0", True),
        (Package("yaml", "PyYAML>=6,<7"), "6.5", True),
        (Package("yaml", "PyYAML>=6,<7"), "7.0", False),  # as kernels 0.17 with transformers 5.23
        (Package("yaml", "PyYAML>=6,<7"), None, True),  # built from source under another name
        (Package("nobody", "PyYAML"), "6.0", False),
    ],
)
def test_a_version_that_does_not_work_is_not_installed(
    package: Package, version: str | None, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", found)
    assert package.is_installed is installed


def test_no_other_module_writes_such_a_command() -> None:
    written = [
        name
        for name, source in SOURCES.items()
        if re.search(r"""qdsft\[|pip install[^\n"]*\[\w""", source) and name != "qdsft.optional_packages"
    ]
    assert written == []
