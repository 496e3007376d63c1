"""A merged model answers in plain transformers as its adapter did; the error of every kind of merge."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.adapter_runs import LORA, QLORA, run_of
from helpers.tiny_run import GOLDEN

from qdsft.cli.main import main
from qdsft.deploy.merge import merge
from qdsft.inference.decomposer import Decomposer

TINY = Callable[[str], Path]


PLAIN = """
import json, sys
sys.modules["qdsft"] = None  # importing it would fail
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
messages = [{"role": "user", "content": question}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs)
text = tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
print(json.dumps({"text": text.strip(), "dtype": str(model.dtype), "eos": model.generation_config.eos_token_id}))
"""


@pytest.mark.slow
def test_it_answers_in_plain_transformers(tiny_model: TINY, tmp_path: Path) -> None:
    adapter_run = run_of(tmp_path, tiny_model("qwen3"), *LORA, held_out=5)
    assert main(["merge", str(adapter_run), "--output", str(tmp_path / "merged"), "--dtype", "float32"]) == 0
    shutil.move(adapter_run / "adapter", adapter_run / "away")  # nothing of the run is needed
    try:
        command = [sys.executable, "-c", PLAIN, str(tmp_path / "merged"), GOLDEN[0]]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    finally:
        shutil.move(adapter_run / "away", adapter_run / "adapter")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    trained = Decomposer(adapter_run)
    assert found["text"] == trained.text(GOLDEN[0]) and found["dtype"] == "torch.float32"
    assert found["eos"] == trained.run.manifest.stop_token_ids and len(found["eos"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt_neox", "gemma3_text", "qwen3"])
def test_the_error_of_every_merge(
    tiny_model: TINY, tmp_path: Path, architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows of the table in docs/MERGING.md; `-s` shows them."""
    lines = []
    kinds = {"LoRA": LORA, "QLoRA nf4": QLORA}
    if architecture == "llama":
        kinds["QLoRA int8"] = ("quantization.load_in_8bit=true", "lora.r=4")
    for kind, overrides in kinds.items():
        run_dir = run_of(tmp_path, tiny_model(architecture), *overrides, name=kind.replace(" ", "-"))
        for dtype in ("float32", "bfloat16"):
            found = merge(run_dir, tmp_path / f"{kind}-{dtype}", dtype=dtype).candidates
            for base, figures in found.items():
                logits = figures.logits
                lines.append(
                    f"| {architecture} | {kind} | {base} | {dtype} | {logits.mean_kl:.1e} | "
                    f"{logits.largest_difference:.1e} |"
                )
            best = found.get("dequantized", found["original"]).logits.mean_kl
            assert best < {"float32": 1e-6, "bfloat16": 1e-4}[dtype] or kind == "QLoRA int8"
            if kind == "QLoRA nf4":
                assert found["original"].logits.mean_kl > 5 * best
    with capsys.disabled():
        print("", *lines, sep="\n")
