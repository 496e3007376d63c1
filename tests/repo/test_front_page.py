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
RECIPE_ROW = re.compile(r"^\| \[(\w+)\.yaml\].*?([\d.]+) GiB", re.MULTILINE)


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_front_page_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) < 150


def test_the_address_of_the_repository_is_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == ADDRESS
    clones = {
        page.name: re.findall(r"^git clone (?:--\S+ )*(\S+)", page.read_text(encoding="utf-8"), re.M) for page in PAGES
    }
    own = {name: {one for one in found if "llama.cpp" not in one} for name, found in clones.items()}
    assert {"README.md", "README.ko.md", "QUICKSTART.md", "RUNPOD_GUIDE.md"} <= {name for name in own if own[name]}
    assert all(found <= {ADDRESS} for found in own.values()), own


@pytest.mark.parametrize("folder", sorted({folder for folder, _ in PEAKS}))
def test_a_recipe_has_one_memory_figure(folder: str) -> None:
    page = (ROOT / "recipes" / folder / "README.md").read_text(encoding="utf-8")
    found = {(folder, method): float(figure) for method, figure in RECIPE_ROW.findall(page)}
    assert found == {recipe: peak for recipe, peak in PEAKS.items() if recipe[0] == folder}
    for path in (ROOT / "recipes" / folder).glob("*.yaml"):
        header = path.read_text(encoding="utf-8").partition("model:")[0]
        figures = [float(figure) for figure in re.findall(r"([\d.]+) GiB", header)]
        assert set(figures) <= {PEAKS[folder, path.stem]}, path
