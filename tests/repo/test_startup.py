"""A training run loads what it uses: packages that are installed for other things stay where they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from helpers.paths import ROOT

UNUSED = {
    *("deepspeed", "fastapi", "jax", "llguidance", "openai", "sacrebleu", "selenium", "sklearn", "spacy"),
    *("starlette", "tensorboard", "tensorflow", "torchaudio", "torchvision", "vllm", "wandb"),
}
SCRIPT = f"""
import sys
from qdsft.cli.main import main
from transformers import TrainerCallback
before = set()
class Look(TrainerCallback):
    def on_step_end(self, *arguments, **options):
        before.update(sys.modules)
import qdsft.training.run_setup as stage
original = stage.build_trainer
def build(*arguments, **options):
    trainer = original(*arguments, **options)
    trainer.add_callback(Look())
    return trainer
stage.build_trainer = build
assert main(sys.argv[1:]) == 0
assert before, "no step was taken"
print("LOADED", sorted({UNUSED!r} & set(sys.modules)), sorted({{"matplotlib"}} & before))
"""


def test_a_run_loads_nothing_that_it_does_not_use(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    arguments = [
        *("train", "recipes/tiny/full.yaml", f"model.name_or_path={tiny_model('llama')}"),
        *("data.train=data/examples/sample_train.jsonl", "data.eval_fraction=0", "training.max_steps=1"),
        *(f"training.output_dir={tmp_path / 'run'}", "training.report_to=none"),
    ]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "LOADED [] []" in done.stdout, done.stdout[-500:]
