"""README.md: its length, the address of the repository, and the one memory figure of each recipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from helpers.installed_packages import PROJECT
from helpers.pages import PAGES, READMES
from helpers.paths import ROOT

ADDRESS = PROJECT["project"]["urls"]["Repository"]
PLAN = (ROOT / "docs" / "PLAN.md").read_text(encoding="utf-8")
PEAKS = {
    (folder, method): max(float(training), float(evaluation))
    for folder, method, training, evaluation in re.findall(r"^\| (\w+)/(\w+) \| ([\d.]+) \| ([\d.]+) \|", PLAN, re.M)
}
"""Recipe -> peak in GiB with the CUDA context, as docs/PLAN.md has it."""
FIGURE = re.compile(r"recipes/(\w+)/(\w+)\.yaml.*?([\d.]+) GiB")


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


def test_a_recipe_has_one_memory_figure() -> None:
    """The pages give the peaks of docs/PLAN.md, and the recipes refer to that page."""
    guides = [ROOT / "docs" / name for name in ("QUICKSTART.md", "QUICKSTART.ko.md")]
    for page in guides:
        found = FIGURE.findall(page.read_text(encoding="utf-8"))
        assert len(found) >= 3
        assert all(float(figure) == PEAKS[folder, method] for folder, method, figure in found), page
    for path in (ROOT / "recipes").glob("*/*.yaml"):
        assert "GiB" not in path.read_text(encoding="utf-8").partition("model:")[0], path


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_each_result_is_recorded(page: Path) -> None:
    """The results of the front page are copies of figures in the pages that say how they were measured."""
    results = page.read_text(encoding="utf-8").split("\n## ")[1]
    gemma = (ROOT / "recipes" / "gemma3_270m" / "README.md").read_text(encoding="utf-8")
    benchmarks = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    recorded = set(re.findall(r"\d+\.\d+", gemma))
    recorded |= {f"{float(one):.1f}" for one in re.findall(r"\d\.\d+", benchmarks)}  # ratios are rounded
    figures = set(re.findall(r"\d+\.\d+", results))
    assert len(figures) > 10
    assert figures <= recorded
