"""README.md (length, address, source of its results) and the files that a hosting site reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from helpers.installed_packages import PROJECT
from helpers.pages import PAGES, READMES
from helpers.paths import ROOT

ADDRESS = PROJECT["project"]["urls"]["Repository"]
CLONE = re.compile(r"^git clone (?:--\S+ (?:\d+ )?)*(\S+)", re.MULTILINE)


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_front_page_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) < 150


def test_the_address_of_the_repository_is_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == ADDRESS
    cloned = set()
    for page in PAGES:
        for address in re.findall(
            r"^git clone (?:--\S+ (?:\d+ )?)*(\S+)", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            if "llama.cpp" not in address:
                assert address == ADDRESS, page
                cloned.add(page.relative_to(ROOT).as_posix())
    assert {"README.md", "README.ko.md", "docs/QUICKSTART.md", "docs/RUNPOD_GUIDE.md"} <= cloned


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_each_result_is_recorded(page: Path) -> None:
    """The results of the front page are copies of figures in the pages that say how they were measured."""
    results = page.read_text(encoding="utf-8").split("\n## ")[1]
    gemma = (ROOT / "recipes" / "gemma3_270m" / "README.md").read_text(encoding="utf-8")
    benchmarks = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    metrics = (ROOT / "docs" / "METRICS.md").read_text(encoding="utf-8")
    recorded = set(re.findall(r"\d+\.\d+", gemma)) | {f"0{one}" for one in re.findall(r" (\.\d{3}) ", metrics)}
    recorded |= {f"{float(one):.1f}" for one in re.findall(r"\d\.\d+", benchmarks)}  # ratios are rounded
    figures = set(re.findall(r"\d+\.\d+", results))
    assert len(figures) > 10
    assert figures <= recorded


def test_continuous_integration_runs_make() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run") for step in workflow["jobs"]["test"]["steps"]]
    assert [step for step in steps if step] == ["make setup", "make check", "make test", "make exhaustive"]
    assert workflow[True].keys() == {"push", "pull_request"}  # YAML 1.1 reads `on` as true


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_an_issue_form_has_unique_fields(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name != "config.yml":
        fields = [field["id"] for field in form["body"]]
        assert form["name"] and form["description"] and len(fields) == len(set(fields)) >= 3
