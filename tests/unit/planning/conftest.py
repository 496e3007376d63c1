"""Plans of recipes without their models: only a config.json is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.model_configs import RECIPE_CONFIGS
from helpers.paths import ROOT

from qdsft.planning.cards import Target
from qdsft.planning.memory.training_memory import GIB
from qdsft.planning.plan import Plan, make_plan


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synthetic_corpus: Path) -> Any:
    """Plan a recipe, given by its path, with overrides, on GPUs of `memory` GiB."""
    monkeypatch.chdir(ROOT)

    def make(recipe: str, *overrides: str, memory: float = 8, **target: Any) -> Plan:
        config = ROOT / "tests" / "configs" / f"{RECIPE_CONFIGS[Path(recipe).parent.name]}.json"
        shutil.copy(config, tmp_path / "config.json")
        return make_plan(recipe, [f"model.name_or_path={tmp_path}", *overrides], Target(int(memory * GIB), **target))

    return make
