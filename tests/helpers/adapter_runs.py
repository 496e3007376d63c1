"""Make adapter runs with random weights, with or without held-out rows."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.tiny_run import make_run

from qdsft.data.synth import generate_mixed

QLORA = ("quantization.load_in_4bit=true", "quantization.bnb_4bit_quant_type=nf4", "lora.r=4")


LORA = ("lora.r=4",)


def run_of(tmp_path: Path, base: Path, *overrides: str, held_out: int = 0, name: str = "run") -> Path:
    run_dir = make_run(tmp_path / name, base, "tiny/full", *overrides, lora_scale=0.1)
    if held_out:
        rows = []
        for row in generate_mixed(["en", "ko"], held_out, 5):
            messages = [{"role": "user", "content": row["question"]}]
            steps = "\n".join(f"{n}. {step}" for n, step in enumerate(row["sub_questions"], 1))
            rows.append(json.dumps({"row": row, "messages": messages, "completion": steps}, ensure_ascii=False) + "\n")
        (run_dir / "eval.jsonl").write_text("".join(rows), encoding="utf-8")
        manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
        manifest["data"]["eval_rows"] = held_out
        (run_dir / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    return run_dir
