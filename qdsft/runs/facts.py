"""The parts of run.json that record facts: data, tokens, base model, device, results and the fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, SerializerFunctionWrapHandler, model_serializer

from qdsft.hashing import json_sha256


class Facts(BaseModel):
    """A part of run.json. Keys of another version are kept, and fields that were never set are not written."""

    model_config = ConfigDict(extra="allow", validate_assignment=True)

    @model_serializer(mode="wrap")
    def _only_set_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}

    def update(self, values: Mapping[str, Any]) -> None:
        """Set fields by name; raises ValidationError for a value of another type."""
        for name, value in values.items():
            setattr(self, name, value)


class DataFacts(Facts):
    """Row counts and hashes of the split."""

    train_rows: int
    eval_rows: int
    left_out: int = 0
    train_sources: dict[str, int] = {}
    """Source -> training rows in an epoch, repeated ones included; empty for a single source."""
    train_sha256: str = ""
    eval_sha256: str = ""


class PackingFacts(Facts):
    """The result of packing."""

    rows: int
    """Packed rows."""
    efficiency: float
    """Share of the packed rows' room that holds tokens."""


class TokenFacts(Facts):
    """Lengths of the rows of one side of the split in tokens, and what data.overlength did.

    The defaults stand for fields that run.json of an earlier version does not have.
    """

    rows: int = 0
    tokens: int = 0
    shortest: int = 0
    longest: int = 0
    supervised_share: float = 0.0
    dropped: int = 0
    truncated: int = 0
    packing: PackingFacts | None = None


class BaseModelFacts(Facts):
    """What identifies the base model."""

    name_or_path: str
    revision: str | None = None
    """Commit on the Hub; None for a local folder."""
    config_sha256: str | None = None
    code_sha256: dict[str, str] | None = None
    """With model.trust_remote_code: the hash of config.json and of each Python file in a local folder."""


class DeviceFacts(Facts):
    """Where the run trained."""

    kind: str | None = None
    """cuda, mps or cpu."""
    name: str | None = None
    processes: int | None = None
    platform: str | None = None


class RecomputationFacts(Facts):
    """How `activation_checkpointing: auto` was decided."""

    checkpointing: bool | None = None
    every_n_layers: int | None = None
    said: str | None = None
    """The line that reported the choice."""


class PreflightFacts(Facts):
    """The result of one check before the first step."""

    name: str
    passed: bool
    found: str


class ResultFacts(Facts):
    """Timings, losses and peak memory; everything but the first two fields is set when the run has finished."""

    activation_checkpointing: RecomputationFacts | None = None
    preflight: list[PreflightFacts] = []
    steps: int | None = None
    epochs: float | None = None
    first_loss: float | None = None
    last_loss: float | None = None
    seconds_to_first_step: FiniteFloat | None = None
    seconds_training: FiniteFloat | None = None
    tokens_per_second: float | None = None
    peak_memory_gib: float | None = None


class Fingerprint(Facts):
    """The inputs that must be unchanged to resume a run. A published manifest has none."""

    recipe: dict[str, Any] = {}
    """The resolved recipe without the keys that do not change the weights."""
    data: list[str] = []
    """SHA-256 of the training rows and of the held-out rows."""
    template: str | None = None
    world_size: int | None = None
    loss_sha256: str | None = None
    """SHA-256 of the file of a custom loss."""

    def sha256(self) -> str:
        """SHA-256 of the fingerprint, in hex; each checkpoint carries it."""
        return json_sha256(self.model_dump())
