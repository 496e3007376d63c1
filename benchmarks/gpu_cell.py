"""Measure one cell of gpu.py: import and plan at once, and train when a line with the time limit comes on stdin."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")

import torch  # noqa: E402
from trl import pack_dataset  # noqa: E402

from gpu_models import SHORTEST, WARM_UP, clean, make_model, make_rows, mfu, run, stock_trainer, tokenizer  # noqa: E402

SHAPES = {
    "Llama-2-7B": ("llama-2-7b", "llama2"),
    "Mistral-7B": ("mistral-7b-v0.3", "mistral"),
    "Polyglot-5.8B": ("polyglot-ko-5.8b", "koalpaca"),
}
"""Shape -> its file in tests/configs and its folder in recipes."""
TINY = {
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"num_key_value_heads": 4, "head_dim": 16, "vocab_size": 256},
}
GIB = 2**30
SMALL_GPU = 6.2 * GIB
CONTEXT = 0.5 * GIB
"""Bytes that the planner adds for the CUDA context, which the limit of the allocator does not include."""
LENGTH_STEP = 256
SPARE_SECONDS = 6
"""Seconds before the limit at which a cell takes its last step."""
LARGEST, DEFAULTS = "largest length", "TRL, defaults"
Report = Callable[..., None]


class Ours:
    """The shipped recipe of a cell, with the trainer that `qdsft train` would build."""

    def __init__(self, cell: dict[str, Any], config: dict[str, Any], folder: Path) -> None:
        from qdsft.recipe import load_recipe
        from qdsft.training.build import build_trainer

        self._build: Any = build_trainer
        self._checkpointing: Any = None
        (folder / "model").mkdir()  # the config alone: the weights are made on the GPU
        (folder / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        overrides = [
            *(f"model.name_or_path={folder / 'model'}", f"training.output_dir={folder / 'run'}"),
            *(f"training.max_length={cell['tokens']}", "training.per_device_train_batch_size=1"),
            *("training.global_batch_size=1", "training.save_strategy=no", "training.report_to=none"),
        ]
        path = ROOT / "recipes" / SHAPES[cell["shape"]][1] / f"{cell['method']}.yaml"
        self.recipe = load_recipe(path, overrides)
        self.recipe.run_dir.mkdir()

    def planned(self, *, capped: bool) -> dict[str, Any]:
        """Return what `qdsft plan` predicts: peaks in bytes without the CUDA context, or the longest row."""
        import qdsft

        try:
            found = qdsft.plan(self.recipe, gpu_memory=(SMALL_GPU + CONTEXT) / GIB if capped else 139)
        except Exception as error:  # the measurement is of use without the plan
            return {"plan_failed": f"{type(error).__name__}: {error}"[:200]}
        if capped:
            return {"planned_length": found.largest_length}
        return {"planned": found.training.allocated, "planned_reserved": getattr(found.training, "reserved", None)}

    def prepare(self) -> None:
        """Choose the activation checkpointing while the memory of the GPU is free."""
        from qdsft.model.device import find_machine
        from qdsft.training.checkpointing_choice import choose_checkpointing

        self.machine = find_machine()
        length = self.recipe.max_length
        assert length is not None
        self._checkpointing = choose_checkpointing(self.recipe, self.machine, length)

    def train(self, model: Any, length: int, steps: int, end: float) -> dict[str, Any]:
        """Train a few steps on packed rows of `length` tokens."""
        from qdsft.training.build import build_arguments

        values = {**self.recipe.training, "max_length": length, "max_steps": steps + WARM_UP, "logging_steps": 1000}
        recipe = self.recipe.model_copy(update={"training": values})
        arguments = build_arguments(recipe, self.machine, checkpointing=self._checkpointing)
        samples = make_rows(values["max_steps"] * max(length // SHORTEST, 1), model.config.vocab_size, length)
        rows = pack_dataset(samples, length, "bfd")
        return run(self._build(recipe, arguments, model, tokenizer(), rows, None), end)


def main() -> None:
    cell, folder, smoke = json.loads(sys.argv[1]), Path(sys.argv[2]), "--smoke" in sys.argv
    config = json.loads((ROOT / "tests" / "configs" / f"{SHAPES[cell['shape']][0]}.json").read_text(encoding="utf-8"))
    if smoke:
        config |= {key: value for key, value in TINY.items() if key in config or key == "head_dim"}
        cell["tokens"] = min(cell["tokens"], 256)

    def report(**figures: Any) -> None:
        with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")

    capped, plain = cell["way"] == LARGEST, cell["way"] == DEFAULTS
    ours = Ours(cell, config, folder) if not cell["way"].startswith("TRL") else None
    if ours:
        report(**ours.planned(capped=capped))
    end = time.perf_counter() + float(sys.stdin.readline() or 0) - SPARE_SECONDS
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report(machine=describe(device))
    if ours:
        ours.prepare()
    if capped and device == "cuda":
        torch.cuda.set_per_process_memory_fraction(SMALL_GPU / torch.cuda.get_device_properties(0).total_memory)
    bits4 = cell["method"].startswith("qlora")
    dtype = torch.float32 if device == "cpu" or (plain and bits4) else torch.bfloat16
    model = make_model(config, device, bits4=bits4, dtype=dtype, double=not plain)
    steps = 1 if smoke else 6
    if ours and capped:
        longest = cell["tokens"] if smoke else config["max_position_embeddings"]
        search(lambda length: ours.train(model, length, 0, end), report, cell["tokens"], longest, end)
        return
    if ours:
        figures = ours.train(model, cell["tokens"], steps, end)
    else:
        trainer = stock_trainer(model, cell["method"], cell["tokens"], steps, str(folder / "run"), defaults=plain)
        figures = run(trainer, end)
    report(**figures, **mfu(figures["tokens_per_second"], model))


def search(train: Callable[[int], Any], report: Report, length: int, longest: int, end: float) -> None:
    """Find the largest length up to `longest` that trains: double `length` until memory runs out, then bisect."""
    passed = failed = 0
    while length > passed and time.perf_counter() < end:
        try:
            train(length)
            passed = length
        except torch.OutOfMemoryError:
            failed = length
        clean()  # after the error, which keeps the activations of the failed step alive
        report(largest=passed, too_long=failed or None)
        length = (passed + failed) // 2 // LENGTH_STEP * LENGTH_STEP if failed else min(2 * length, longest)


def describe(device: str) -> str:
    """Return the machine and the releases in one line."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"a CPU ({platform.machine()}), tiny shapes"
    packages = ", ".join(f"{package} {version(package)}" for package in ("transformers", "trl", "peft", "bitsandbytes"))
    return f"{name}, torch {torch.__version__}, {packages}"


if __name__ == "__main__":
    main()
