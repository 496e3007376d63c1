"""Build random models and rows on the device for gpu.py, TRL's own trainer, and time a trainer.

Imports nothing of this project.
"""

from __future__ import annotations

import gc
import random
import time
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


def make_model(config: dict[str, Any], device: str, *, bits4: bool, dtype: torch.dtype, double: bool) -> Any:
    """Return a model with random weights on `device`; `bits4` quantizes its linear layers to NF4.

    `dtype` is that of the other weights and of the arithmetic; `double` quantizes the scales of NF4 as well. Fills one
    linear layer at a time, so that the GPU holds at most the result and one layer.
    """
    values = {key: value for key, value in config.items() if key != "model_type"}
    with no_init_weights():  # memory that is never touched
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **values), dtype=dtype)
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if bits4 and isinstance(module, torch.nn.Linear) and module is not head:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, _quantized(module, device, dtype, double))
    for weight in model.parameters():
        if weight.is_floating_point():  # quantized weights have values already
            is_vector = weight.ndim == 1
            weight.data = torch.empty(weight.shape, dtype=dtype, device=device).normal_(float(is_vector), 0.02)
    model.to(device)
    model.tie_weights()
    model.is_loaded_in_4bit = bits4
    return model


def _quantized(linear: torch.nn.Linear, device: str, dtype: torch.dtype, double: bool) -> torch.nn.Module:
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    made: Any = Linear4bit(  # type: ignore[no-untyped-call]
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=dtype,
        compress_statistics=double,
        quant_type="nf4",
        device="meta",
    )
    values = torch.empty(linear.weight.shape, dtype=dtype, device=device).normal_(0, 0.02)
    made.weight = Params4bit(values, requires_grad=False, compress_statistics=double, quant_type="nf4", module=made)
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


def stock_trainer(model: Any, method: str, tokens: int, steps: int, output: str, *, defaults: bool) -> SFTTrainer:
    """Return TRL's trainer for micro-batches of about `tokens` tokens, with its defaults or as an expert sets it."""
    cuda, samples = torch.cuda.is_available(), max(tokens // 128, 1)
    rows = make_rows((steps + WARM_UP) * samples * 2, model.config.vocab_size, tokens)
    eight_bit = method.startswith("qlora") and not defaults and cuda
    config = SFTConfig(
        output_dir=output,
        per_device_train_batch_size=samples if defaults else 1,
        max_steps=steps + WARM_UP,
        max_length=tokens,
        packing=not defaults,
        bf16=cuda,
        use_cpu=not cuda,
        optim="adamw_8bit" if eight_bit else "adamw_torch_fused",
        learning_rate=1e-4,
        dataset_kwargs={"skip_prepare_dataset": True},
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=10_000,
    )
    return SFTTrainer(
        model=model,
        args=config,
        train_dataset=rows if defaults else pack_dataset(rows, tokens, "bfd"),
        processing_class=tokenizer(),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
    )


def run(trainer: SFTTrainer, end: float) -> dict[str, Any]:
    """Train until `end` at the latest; return speed, loss and peak memory, and remove the adapter from the model."""
    clock = Clock(end)
    trainer.add_callback(clock)
    base, cuda = trainer.model.get_base_model(), torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer.train()
        seconds, all_steps = clock.end - clock.begin, trainer.state.global_step
        timed = clock.steps > 0 and seconds > 0
        return {
            "steps": clock.steps,
            "loss": trainer.state.log_history[-1]["train_loss"],
            # Without padding.
            "tokens_per_second": trainer._total_train_tokens / all_steps * clock.steps / seconds if timed else None,
            "allocated": torch.cuda.max_memory_allocated() if cuda else None,
            "reserved": torch.cuda.max_memory_reserved() if cuda else None,
        }
    finally:
        trainer.model.unload()
        base.__dict__.pop("forward", None)  # TRL's fused head, which the next trainer adds again
        base.zero_grad(set_to_none=True)
        trainer.optimizer = trainer.lr_scheduler = None
        clean()


def mfu(tokens_per_second: float | None, model: Any) -> dict[str, float | None]:
    """Return TFLOP/s and their share of the GPU's, at 4 operations per token and weight that multiplies.

    Training adapters multiplies each frozen weight twice: forward, and backward to the activations.
    """
    if tokens_per_second is None:
        return {"tflops": None, "mfu": None}
    weights = sum(weight.numel() * (2 if weight.dtype.itemsize == 1 else 1) for weight in model.parameters())
    if not model.config.tie_word_embeddings:
        weights -= model.get_input_embeddings().weight.numel()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)
    speed = tokens_per_second * weights * 4
    return {"tflops": speed / 1e12, "mfu": speed / peak if peak else None}


def clean() -> None:
    """Release unused memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
