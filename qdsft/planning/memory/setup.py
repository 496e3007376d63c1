"""The training settings that memory depends on: number formats, batch, attention, optimizer, devices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from qdsft.errors import UserError
from qdsft.planning.memory.shapes import Linear, Shapes
from qdsft.recipe import Recipe
from qdsft.recipe.sections import AUTO

HEADS = ("lm_head", "embed_out")
EMBEDDINGS = ("embed_tokens", "embed_in")


@dataclass(frozen=True)
class Setup:
    """A resolved training set-up. Number formats are in bytes per element."""

    stream: int
    """Weights that are not quantized, and the residual stream between layers."""
    compute: int
    """Inputs and outputs of matrix products."""
    autocast: bool
    """Whether torch.autocast chooses the format of each operation."""
    bits: int | None
    """4 or 8 for weights quantized by bitsandbytes, None without quantization."""
    double_quant: bool
    dequantized: int
    """Format to which 4-bit weights are de-quantized for a product."""
    unquantized: tuple[str, ...]
    """Linear layers that are not quantized, from quantization.llm_int8_skip_modules."""
    adapter: int | None
    """LoRA weights; None if all weights are trained."""
    lora: dict[str, Any]
    gradients: int
    master: int
    """The optimizer's own copy of every trained weight (DeepSpeed's, in float32), or 0."""
    optimizer: str
    checkpointing: bool
    every_n_layers: int
    micro_batch: int
    length: int
    """Tokens of a row, including padding."""
    packed: bool
    """Whether the rows of a micro-batch are concatenated into one row, with a mask between samples."""
    attention: str
    gpus: int = 1
    zero: int = 0
    cuda: bool = True
    """True for a CUDA GPU with Triton; False models PyTorch on a CPU, to compare with traces there."""
    evaluated: int = 0
    """Rows of a batch when held-out rows are scored during training, or 0."""
    adaptive: bool = False
    """Whether the recipe lets the available memory decide which layers to checkpoint; all are, here."""
    materialized_logits: bool = False
    """Whether logits of all positions are computed at once, as for label smoothing and in other trainers."""

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch."""
        return self.micro_batch * self.length

    @property
    def rows(self) -> int:
        """Rows that attention sees."""
        return 1 if self.packed else self.micro_batch

    @property
    def row_length(self) -> int:
        """Tokens of such a row."""
        return self.tokens // self.rows

    @property
    def trains_all(self) -> bool:
        """Whether all weights are trained, not adapters."""
        return self.adapter is None

    @property
    def copies_adapter_inputs(self) -> bool:
        """Whether each adapter casts its own input: float32 adapters under autocast on a base without quantization."""
        return self.adapter == 4 and self.compute == 2 and self.bits is None

    def masked(self, window: int | None) -> bool:
        """Return whether attention in this window needs a mask of [rows, 1, length, length]."""
        if self.attention not in {"sdpa", "eager"}:
            return False
        if self.attention == "eager" or self.packed or self.micro_batch > 1:
            return True
        return window is not None and window < self.length

    def is_target(self, shapes: Shapes, linear: Linear) -> bool:
        """Return whether a linear layer has an adapter, by PEFT's rules for target_modules and exclude_modules."""
        if self.adapter is None or _matches(self.lora.get("exclude_modules"), shapes, linear):
            return False
        targets = self.lora.get("target_modules")
        if targets == "all-linear":
            return True
        return _matches(targets or list(shapes.default_targets), shapes, linear)

    def rank(self, shapes: Shapes, linear: Linear) -> int:
        """Return the rank of a linear layer's adapter, from lora.rank_pattern or lora.r."""
        path = f"{shapes.prefix}.0.{linear.path}"
        for pattern, rank in (self.lora.get("rank_pattern") or {}).items():
            if re.search(rf"(?:^|\.){pattern}$", path):
                return int(rank)
        return int(self.lora.get("r", 8))


def read_setup(recipe: Recipe, *, length: int, gpus: int = 1, zero: int = 0, bfloat16: bool = True) -> Setup:
    """Return the set-up of a recipe on `gpus` CUDA GPUs under ZeRO stage `zero` (0: DDP).

    `length` is the longest row in tokens. `bfloat16` says whether the GPU supports it.
    Raises UserError as Recipe.accumulation_steps does, and for 4-bit weights under ZeRO-3.
    """
    quantization, lora = recipe.quantization or {}, recipe.lora
    bits = 4 if quantization.get("load_in_4bit") else 8 if quantization.get("load_in_8bit") else None
    if zero == 3 and bits:
        raise UserError("--zero 3 cannot shard quantized weights; use --zero 0, or remove the quantization section")
    half = recipe.model.dtype != "float32"
    compute = 2 if half else 4
    adapter = None
    if lora is not None:
        adapter = 2 if (bits and bfloat16) or (zero and half) else 4
    stream = 4 if lora is None and not zero else compute
    kwargs, recomputed = (recipe.training_value(f"activation_checkpointing{end}") for end in ("_kwargs", ""))
    adaptive = recomputed == AUTO
    recipe.accumulation_steps(gpus)  # raises where the batch cannot be divided
    trained = stream if adapter is None else adapter
    evaluates = recipe.training_value("eval_strategy") != "no" or recipe.evaluation.every_steps is not None
    packed = recipe.packing or bool(recipe.training_value("padding_free"))
    return Setup(
        stream=stream,
        compute=compute,
        autocast=half and not zero,
        bits=bits,
        double_quant=bool(quantization.get("bnb_4bit_use_double_quant")),
        dequantized=4 if quantization.get("bnb_4bit_compute_dtype") == "float32" else compute,
        unquantized=tuple(quantization.get("llm_int8_skip_modules") or ()),
        adapter=adapter,
        lora=lora or {},
        gradients=trained,
        master=4 if zero and trained == 2 else 0,
        optimizer=str(recipe.training_value("optim")),
        checkpointing=bool(recomputed),
        every_n_layers=int(kwargs.get("every_n_layers", 1)) if isinstance(kwargs, dict) and not adaptive else 1,
        adaptive=adaptive,
        micro_batch=recipe.training_value("per_device_train_batch_size"),
        length=length,
        packed=packed,
        # The choice of "auto" depends on the machine; SDPA needs more memory.
        attention="sdpa" if recipe.model.attn_implementation == "auto" else recipe.model.attn_implementation,
        gpus=gpus,
        zero=zero,
        evaluated=recipe.training_value("per_device_eval_batch_size") if evaluates else 0,
        materialized_logits=bool(recipe.training_value("label_smoothing_factor")),
    )


def _matches(names: Any, shapes: Shapes, linear: Linear) -> bool:
    """Return whether names match: a list holds ends of names, and a text is a pattern for a whole name."""
    path = f"{shapes.prefix}.0.{linear.path}"
    if isinstance(names, str):
        return re.fullmatch(names, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in names or ())
