"""docs/PLAN.md: its table is what `qdsft plan` says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.planning.cards import Target
from qdsft.planning.plan import make_plan

CONFIGS = {
    "llama2": "llama-2-7b",
    "mistral": "mistral-7b-v0.3",
    "koalpaca": "polyglot-ko-5.8b",
    "qwen3_4b": "qwen3-4b",
    "llama3_korean": "llama-3-8b",
}
CARDS = (8, 24, 40, 80)
MADE_FOR = {"qlora_8gb": 8, "qlora": 24, "lora": 40, "full": 80}


def rows() -> list[str]:
    page = (ROOT / "docs" / "PLAN.md").read_text(encoding="utf-8")
    return re.findall(r"^\| \w+/\w+ \|.*\|$", page, re.M)


def row(recipe: str, folder: Path) -> str:
    family = recipe.split("/")[0]
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "configs" / f"{CONFIGS[family]}.json", folder / "config.json")
    cells, plans = [], []
    for memory in CARDS:
        plan = make_plan(str(ROOT / f"recipes/{recipe}.yaml"), [f"model.name_or_path={folder}"], Target(memory * 2**30))
        cells.append(f"{plan.largest_length:,}" if plan.fits else "no")
        plans.append(plan)
    made_for = plans[CARDS.index(MADE_FOR[recipe.split("/")[1]])]
    peaks = [f"{peak.total / 2**30:.1f}" for peak in (made_for.training, made_for.evaluation)]
    return f"| {' | '.join([recipe, *peaks, *cells])} |"


def test_every_large_recipe_is_in_the_table() -> None:
    recipes = [path for family in CONFIGS for path in (ROOT / "recipes" / family).glob("*.yaml")]
    assert {f"{path.parent.name}/{path.stem}" for path in recipes} == {line.split(" | ")[0][2:] for line in rows()}


@pytest.mark.parametrize("line", rows(), ids=lambda line: line.split(" | ")[0][2:])
def test_the_table_is_what_the_command_says(line: str, tmp_path: Path) -> None:
    assert line == row(line.split(" | ")[0][2:], tmp_path / "model")


def peaks() -> dict[str, str]:
    """Recipe -> the larger of its two peaks, as the page says."""
    cells = (line.split(" | ") for line in rows())
    return {name[2:]: max(training, evaluation, key=float) for name, training, evaluation, *_ in cells}


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_readme_repeats_the_figures(page: str) -> None:
    found = {}
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("| [recipes/") and (family := line.split("]")[0].rpartition("/")[2]) in CONFIGS:
            for method, cell in zip(MADE_FOR, line.split("|")[5:9], strict=True):
                if cell.strip():
                    found[f"{family}/{method}"] = cell.strip()
    assert found == peaks()


@pytest.mark.parametrize("page", ["docs/QUICKSTART.md", "docs/QUICKSTART.ko.md"])
def test_the_quickstart_repeats_the_figures(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = dict(re.findall(r"^\| `recipes/(\w+/\w+)\.yaml` .*\| ([\d.]+) GiB \|$", text, re.M))
    assert len(found) == 3 and found == {name: peaks()[name] for name in found}


DISTRIBUTED = re.findall(
    r"^\| (\d+) x (\d+) GB \| (.+) \|$", (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8"), re.M
)


@pytest.mark.parametrize(("count", "memory", "cells"), DISTRIBUTED, ids=lambda value: value.strip("| "))
def test_the_table_of_several_gpus_is_what_the_command_says(
    count: str, memory: str, cells: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "tests" / "configs" / "mistral-7b-v0.3.json", tmp_path / "config.json")
    found = []
    for zero in (1, 2, 3):
        target = Target(int(memory) * 2**30, int(count), zero)
        plan = make_plan(str(ROOT / "recipes/mistral/full.yaml"), [f"model.name_or_path={tmp_path}"], target)
        peak = f"{max(plan.training.total, plan.evaluation.total) / 2**30:.1f}"
        found.append(f"**{peak}**" if plan.fits else peak)
    assert cells == " | ".join(found)


def test_several_gpus_have_a_table() -> None:
    assert len(DISTRIBUTED) == 3


def test_no_recipe_has_figures_of_its_own() -> None:
    """Peaks without the CUDA context stood beside these, and differed."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "recipes").rglob("qlora*.yaml")]
    assert len(texts) >= 8 and not [text for text in texts if re.search(r"peak[^.]*?: [\d.]+ GiB", text)]
