"""Build random models and rows on the device for gpu.py, and train one cell.

Requires torch, transformers, peft, accelerate and the wheels that gpu.py lists. Imports nothing of this project.
"""

from __future__ import annotations

import gc
import random
import time
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from transformers.initialization import no_init_weights
from trl import SFTConfig, SFTTrainer, pack_dataset

SHORTEST, LONGEST = 60, 250
"""Tokens of a sample (prompt and answer), as in decomposed questions."""
WARM_UP = 2
"""Steps that are not timed."""
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12, "L4": 121e12, "4060": 60e12}
"""Dense bfloat16 FLOP/s by a part of the GPU's name. Without an entry there is no MFU."""


@dataclass(frozen=True)
class Way:
    """The settings of a cell's training."""

    packed: bool
    optimizer: str
    checkpointing: bool
    every_n_layers: int
    bf16: bool = True


def make_model(config: dict[str, Any], device: str, *, bits4: bool, dtype: torch.dtype, compute: torch.dtype) -> Any:
    """Return a model with random weights on `device`; `bits4` quantizes its linear layers to doubly quantized NF4.

    Creates one linear layer at a time in 16 bits, so that the GPU holds at most the result and one layer.
    """
    values = {key: value for key, value in config.items() if key != "model_type"}
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **values), dtype=dtype)
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if bits4 and isinstance(module, torch.nn.Linear) and module is not head:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, _quantized(module, device, dtype, compute))
    for weight in model.parameters():
        if weight.is_floating_point():  # quantized weights have values already
            is_vector = weight.ndim == 1
            weight.data = torch.empty(weight.shape, dtype=dtype, device=device).normal_(float(is_vector), 0.02)
    model.to(device)
    model.tie_weights()
    model.is_loaded_in_4bit = bits4
    return model


def _quantized(linear: torch.nn.Linear, device: str, dtype: torch.dtype, compute: torch.dtype) -> torch.nn.Module:
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    made: Any = Linear4bit(  # type: ignore[no-untyped-call]
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=compute,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    values = torch.empty(linear.weight.shape, dtype=dtype, device=device).normal_(0, 0.02)
    made.weight = Params4bit(values, requires_grad=False, compress_statistics=True, quant_type="nf4", module=made)
    if linear.bias is not None:
        made.bias = torch.nn.Parameter(torch.zeros(linear.out_features, dtype=dtype), requires_grad=False)
    quantized: torch.nn.Module = made.to(device)
    return quantized


def make_rows(count: int, vocabulary: int, longest: int) -> Dataset:
    """Return rows of random tokens; the second half of each row is supervised."""
    chance = random.Random(0)
    rows = []
    for _ in range(count):
        length = min(chance.randint(SHORTEST, LONGEST), longest)
        ids = [chance.randrange(3, vocabulary) for _ in range(length)]
        rows.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
    return Dataset.from_list(rows)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer that a trainer requires; it tokenizes nothing."""
    from tokenizers import Tokenizer, models

    words = {"<pad>": 0, "<s>": 1, "</s>": 2}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", bos_token="<s>")


class Clock(TrainerCallback):
    """Time the steps after the warm-up, and stop after the deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline, self.begin, self.end, self.steps = deadline, 0.0, 0.0, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the time of a step. Called by the trainer."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.end = time.perf_counter()
        if state.global_step == WARM_UP:
            self.begin = self.end
        self.steps = max(state.global_step - WARM_UP, 0)
        if self.end > self.deadline:
            control.should_training_stop = True


def train_cell(
    model: Any, way: Way, lora: dict[str, Any] | None, tokens: int, steps: int, deadline: float, output: str
) -> dict[str, float | int | None]:
    """Train a few steps on micro-batches of about `tokens` tokens, and remove the adapter from the model again."""
    vocabulary = model.config.vocab_size
    samples = max(tokens // 128, 1)
    rows = make_rows((steps + WARM_UP) * samples * 2, vocabulary, tokens)
    model.gradient_checkpointing_disable()
    kwargs = {"every_n_layers": way.every_n_layers} if way.every_n_layers > 1 else None
    config = SFTConfig(
        output_dir=output,
        per_device_train_batch_size=1 if way.packed else samples,
        max_steps=steps + WARM_UP,
        max_length=tokens,
        packing=way.packed,
        bf16=way.bf16,
        use_cpu=not torch.cuda.is_available(),
        optim=way.optimizer,
        learning_rate=1e-4,
        gradient_checkpointing=way.checkpointing,
        gradient_checkpointing_kwargs=kwargs,
        dataset_kwargs={"skip_prepare_dataset": True},
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=10_000,
    )
    clock = Clock(deadline)
    original = model.__dict__.get("forward")
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=pack_dataset(rows, tokens, "bfd") if way.packed else rows,
        processing_class=tokenizer(),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **lora) if lora else None,
        callbacks=[clock],
    )
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer.train()
        trained = int(trainer._total_train_tokens)
        return {
            "steps": clock.steps,
            "loss": trainer.state.log_history[-1]["train_loss"],
            **_speed(clock, trained, trainer.state.global_step, len(rows), sum(map(len, rows["input_ids"]))),
            "peak_allocated": torch.cuda.max_memory_allocated() if cuda else None,
            "peak_reserved": torch.cuda.max_memory_reserved() if cuda else None,
        }
    finally:
        if lora:
            trainer.model.unload()
        if original is None:
            model.__dict__.pop("forward", None)  # TRL's fused head, which the next trainer adds again
        model.zero_grad(set_to_none=True)
        trainer.optimizer = trainer.lr_scheduler = None
        del trainer
        clean()


def _speed(clock: Clock, trained: int, all_steps: int, rows: int, tokens: int) -> dict[str, float | None]:
    """Return tokens (without padding) and samples per second of the steps after the warm-up."""
    seconds = clock.end - clock.begin
    if not clock.steps or seconds <= 0:
        return {"tokens_per_second": None, "samples_per_second": None}
    per_second = trained / all_steps * clock.steps / seconds
    return {"tokens_per_second": per_second, "samples_per_second": per_second / (tokens / rows)}


def mfu(tokens_per_second: float | None, parameters: int, *, lora: bool) -> float | None:
    """Return the share of the GPU's FLOP/s, at 6 operations per weight and token, or 4 if only adapters are trained."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)
    if peak is None or tokens_per_second is None:
        return None
    return tokens_per_second * parameters * (4 if lora else 6) / peak


def clean() -> None:
    """Release unused memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
