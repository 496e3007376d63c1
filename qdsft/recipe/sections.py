"""The sections of a recipe that qdsft defines. The others have the keys of TRL, PEFT and transformers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A frozen and strict section: an unknown key is an error, and so is a value of another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, protected_namespaces=()
    )


AttentionKernel = (
    Literal["auto", "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4"]
    | Annotated[str, Field(pattern="/", description="a kernel of the Hub (owner/name)")]
)
"""What transformers accepts. It looks at the name only when it loads the model."""


class Model(Section):
    """The base model."""

    name_or_path: Annotated[str, Field(min_length=1)]
    """Hub model id, or a local folder with config.json, weights and tokenizer."""
    revision: str | None = None
    """Branch, tag or commit of the Hub model; the commit that was used is written into run.json."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the weights. auto and bfloat16 take bfloat16 where the device has it, else float16, and float32
    on a CPU (bfloat16 with QDSFT_CPU_DTYPE=bfloat16). float16 takes float16 on every NVIDIA GPU. Models known to
    overflow float16 are refused in it."""
    attn_implementation: AttentionKernel = "auto"
    """Attention kernel, as in transformers: sdpa, eager, flash_attention_2, ... auto takes FlashAttention-2 to train
    with where it is installed and runs, else sdpa, and says which."""
    chat_template: str | None = None
    """Jinja file, looked for beside the recipe first; null takes the tokenizer's own."""
    trust_remote_code: bool = False
    """Whether Python code in the model's folder may run in training; other commands need --trust-remote-code."""


class TrainSource(Section):
    """One of several sources of training rows."""

    path: Annotated[str, Field(min_length=1)]
    """A file or the id of a Hub dataset, as data.train."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Its share of the training rows, in proportion to the other weights."""


class Data(Section):
    """Where the examples come from and which of them are held out."""

    train: Annotated[str, Field(min_length=1)] | Annotated[list[TrainSource], Field(min_length=1)]
    """A file (JSON, JSON Lines, CSV, TSV or Parquet), as data/DATA_FORMAT.md says, or the id of a Hub dataset; or a
    list of {path, weight} to mix several."""
    train_split: str = "train"
    """Split of a Hub dataset."""
    revision: str | None = None
    """Branch, tag or commit of a Hub dataset."""
    eval: str | None = None
    """A file or Hub dataset with the held-out rows; null holds out eval_fraction of the training data."""
    eval_split: str = "validation"
    """Split of a Hub dataset given as eval."""
    eval_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of questions to hold out, chosen by a hash of the normalised question."""
    max_samples: Annotated[int, Field(ge=1)] | None = None
    """Use at most this many training rows, chosen by the same hash."""
    overlength: Literal["error", "drop", "truncate"] = "error"
    """What to do with a row of more than training.max_length tokens; truncate shortens the user text alone."""

    @property
    def train_sources(self) -> list[TrainSource]:
        """The sources of training rows: one, or those of the list."""
        return [TrainSource(path=self.train)] if isinstance(self.train, str) else self.train

    @property
    def train_paths(self) -> list[str]:
        """The files and Hub datasets of the training rows."""
        return [source.path for source in self.train_sources]


class Prompt(Section):
    """The wording, as Jinja over the columns of a row; null takes the wording for decomposition."""

    system: str | None = None
    """System message; empty text leaves it out."""
    user: str | None = None
    """User message."""
    completion: str | None = None
    """What the model has to answer. Given, the task is free text instead of decomposition."""


class Evaluation(Section):
    """How held-out rows are decoded and scored."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    """Longest answer, in tokens."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Rows decoded together."""
    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Decode and score held-out rows before training and after every so many steps; null does it at the end alone."""
    retrieval: str | None = None
    """A corpus (docs/METRICS.md): every_steps also logs how many gold passages the questions and steps find in it, as
    retrieval_recall and retrieval_all_found, which metric_for_best_model can name."""
    samples: Annotated[int, Field(ge=1)] = 64
    """Held-out rows that every_steps decodes; `qdsft evaluate` takes all of them."""


class Publish(Section):
    """Where a finished run may be published."""

    hub_model_id: str | None = None
    """user/name on the Hub; null publishes nothing."""
    push_checkpoints: bool = False
    """Upload the weights of each checkpoint while training, to the branch checkpoints of hub_model_id, which must be
    private."""


AUTO = "auto"
"""Value of training.activation_checkpointing: recompute as few layers as free memory allows."""
