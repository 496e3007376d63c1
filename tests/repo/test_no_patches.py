"""Importing qdsft changes nothing in another library, and what a trainer changes ends with it."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import accelerate.utils.other as other
import pytest
from helpers.paths import ROOT
from helpers.source_imports import SOURCES
from helpers.tiny_recipe import recipe_maker
from helpers.tiny_trainer import make_trainer

from qdsft.errors import UserError
from qdsft.launch import uses_deepspeed

MODULES = sorted(name for name in SOURCES if name != "qdsft.__main__")
SCRIPT = """
import importlib, inspect, sys

LIBRARIES = ("trl", "transformers", "accelerate", "bitsandbytes", "peft", "datasets")
for name in ("trl.trainer.sft_trainer", "trl.kernels", "transformers.trainer", "accelerate.utils.other",
             "accelerate.accelerator", "bitsandbytes.nn", "peft.tuners.lora.bnb", "datasets.arrow_dataset"):
    importlib.import_module(name)

def attributes():
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in LIBRARIES:
            for name, value in list(vars(module).items()):
                found[module_name, name] = value
                if inspect.isclass(value) and value.__module__ == module_name:
                    found |= {(module_name, name, key): part for key, part in list(vars(value).items())}
    return found

before = attributes()
assert len(before) > 10000
for name in sys.argv[1].split(","):
    importlib.import_module(name)
exec(sys.argv[2])
after = attributes()
CACHES = {"__abstractmethods__", "_abc_impl", "__annotations__", "__doc__", "__warningregistry__", "__signature__"}
changed = sorted(key for key, value in before.items() if key[-1] not in CACHES and after.get(key) is not value)
print("CHANGED", changed)
"""


def changed(planted: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ",".join(MODULES), planted],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def test_importing_every_module_changes_no_library() -> None:
    assert changed() == "CHANGED []"


@pytest.mark.slow
def test_a_patch_is_found() -> None:
    module = "import trl.trainer.utils as u; u._use_triton = None"
    method = "import transformers; transformers.Trainer.train = None"
    assert changed(f"{module}\n{method}") == (
        "CHANGED [('transformers.trainer', 'Trainer', 'train'), ('trl.trainer.utils', '_use_triton')]"
    )


def test_a_trainer_restores_accelerate_when_it_is_gone(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    gc.collect()
    original = other.is_deepspeed_available
    assert original is not uses_deepspeed
    trainer = make_trainer(recipe_maker(tmp_path, tiny_model)())
    assert other.is_deepspeed_available is uses_deepspeed
    del trainer
    gc.collect()
    assert other.is_deepspeed_available is original


def test_a_trainer_that_cannot_be_built_changes_nothing(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="nope_proj"):
        make_trainer(recipe_maker(tmp_path, tiny_model)("lora.target_modules=[nope_proj]"))
    gc.collect()
    assert other.is_deepspeed_available is not uses_deepspeed
