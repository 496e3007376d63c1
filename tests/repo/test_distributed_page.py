"""docs/distributed.md and docs/RUNPOD_GUIDE.md: their modelled figures of a 7B model are what `qdsft plan` says."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from helpers.paths import ROOT

from qdsft.model.device import Machine
from qdsft.planning.cards import Target
from qdsft.planning.config_file import read_config
from qdsft.planning.fitting import Fitting
from qdsft.planning.saving import estimate_saving
from qdsft.planning.workload import estimate_workload
from qdsft.recipe import load_recipe
from qdsft.training.memory_trace.tracer import StepTracer
from qdsft.training.plan import make_config

PAGE = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d) x (\d+) GB \|(.*)\|$", PAGE, re.MULTILINE)
COLUMNS: tuple[dict[str, Any], ...] = (
    {"zero": 1},
    {"zero": 2},
    {"zero": 3},
    {"fsdp": True},
    {"zero": 3, "offload": True},
)


@pytest.mark.slow
def test_a_full_run_of_7b() -> None:
    recipe = load_recipe(ROOT / "recipes/mistral/full.yaml")
    machine = Machine("cuda", "a GPU", torch.bfloat16)
    fitting = Fitting(
        StepTracer(make_config(recipe, *read_config(recipe)), machine, sharded=True),
        Target(2**30, 2, 3),
        estimate_workload(recipe)[0],
    )
    assert len(ROWS) == 3
    for gpus, gigabytes, cells in ROWS:
        for cell, sharding in zip(cells.split("|"), COLUMNS, strict=True):
            memory = int(gigabytes) * 2**30
            on_these = Fitting(fitting.tracer, Target(memory, int(gpus), **sharding), fitting.workload)
            total = on_these.training(recipe).total
            figure = f"{total / 2**30:.1f}"
            assert cell.strip() == (f"**{figure}**" if total <= memory else figure), (gpus, gigabytes, sharding)

    saving = estimate_saving(recipe, fitting.tracer.sizes(recipe), fitting.optimizer_bytes(recipe), None)
    guide = (ROOT / "docs" / "RUNPOD_GUIDE.md").read_text(encoding="utf-8")
    assert f"| `full` | {saving.disk / 1e9:.0f} GB |" in guide
    assert f"one checkpoint of {saving.checkpoint / 1e9:.0f} GB" in guide
