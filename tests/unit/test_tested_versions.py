"""The installed packages compared with requirements.txt and the ranges of pyproject.toml."""

from __future__ import annotations

import pytest
from helpers.installed_packages import install_packages
from helpers.paths import ROOT

from qdsft.tested_versions import deviations, installed_version, pinned_versions


def test_the_tested_versions_are_those_of_requirements() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    tested = pinned_versions()
    assert len(tested) == sum("==" in line.partition(";")[0] for line in text.splitlines())
    assert f"torch=={tested['torch']}" in text
    assert tested["huggingface-hub"] and tested["deepspeed"]  # normalised, and without the marker


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({}, []),
        ({"torch": "2.13.0+cpu"}, []),
        ({"torch": "2.14.1"}, ["torch 2.14.1 (tested: 2.13.0)"]),
        ({"torch": "1.13.1"}, ["torch 1.13.1 (required: <3,>=2.10)"]),
        ({"huggingface_hub": "2.5.0"}, []),  # names are compared as pip does
        ({"huggingface-hub": "2.5.0"}, ["huggingface_hub 2.5.0 (tested: 2.4.0)"]),
        ({"pyyaml": None}, ["PyYAML not installed (required: <7,>=6.0.2)"]),
        ({"wandb": None, "gradio": "6.40"}, []),  # optional, and no tested version
        ({"gradio": "7.0"}, ["gradio 7.0 (required: <7,>=6.31)"]),
        ({"tokenizers": "0.23.9", "numpy": "2.9"}, ["numpy 2.9 (tested: 2.4.6)", "tokenizers 0.23.9 (tested: 0.23.3)"]),
    ],
)
def test_deviations(versions: dict[str, str | None], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    install_packages(monkeypatch, versions)
    assert [str(found) for found in deviations()] == expected


def test_a_package_that_is_not_installed() -> None:
    assert installed_version("a-package-of-nobody") is None
    assert installed_version("pyyaml")
