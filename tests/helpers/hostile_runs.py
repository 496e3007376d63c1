"""Make run directories whose model contains Python code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from helpers.tiny_run import make_run

CODE = """
from pathlib import Path
from transformers import LlamaConfig
Path({marker!r}).touch()
class Strange(LlamaConfig):
    model_type = "strange"
"""
MODEL_CODE = """
from transformers import LlamaForCausalLM
from .configuration_strange import Strange
class StrangeForCausalLM(LlamaForCausalLM):
    config_class = Strange
"""


def add_code(folder: Path, marker: Path) -> None:
    """Change the model in `folder` so that its config is Python code, which creates the file `marker` when it runs."""
    (folder / "configuration_strange.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    (folder / "modeling_strange.py").write_text(MODEL_CODE, encoding="utf-8")
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    auto = {
        "AutoConfig": "configuration_strange.Strange",
        "AutoModelForCausalLM": "modeling_strange.StrangeForCausalLM",
    }
    path.write_text(json.dumps(config | {"model_type": "strange", "auto_map": auto}), encoding="utf-8")


def hostile_run(folder: Path, base: Path, marker: Path, *, adapter: bool) -> Path:
    """Return a run directory that says in run.json that its code is to be trusted."""
    own_base = Path(shutil.copytree(base, folder / "base"))
    run = make_run(folder / "run", own_base, "tiny/full", *(["lora.r=4"] if adapter else []), lora_scale=0.1 * adapter)
    add_code(own_base if adapter else run / "model", marker)
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    manifest["recipe"]["model"]["trust_remote_code"] = True
    (run / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    return run
