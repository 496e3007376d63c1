"""A tracer whose bytes follow from a few lines, to test what the planner makes of traces."""

from __future__ import annotations

from dataclasses import dataclass, field

from qdsft.planning.peak import ACTIVATIONS, ADAPTERS, CACHE, GRADIENTS, LOSS, OPTIMIZER, WEIGHTS, Sizes, Traced
from qdsft.planning.way import Way
from qdsft.recipe import Recipe

MIB = 2**20


@dataclass
class PlainTracer:
    """A model of 1.6 billion weights in 16 layers, and adapters of 16 million at rank 16."""

    positions: int | None = 32768
    layers: int = 16
    asked: list[tuple[int, int]] = field(default_factory=list)
    """Rows and length of each training step that was asked for."""

    def sizes(self, recipe: Recipe) -> Sizes:
        trained = self._trained(recipe)
        return Sizes(1600 * MIB, trained, trained * (2 if recipe.lora else 4), 90 * MIB, 160 * MIB)

    def training(self, recipe: Recipe, rows: int, length: int, way: Way) -> Traced:
        self.asked.append((rows, length))
        trained = self._trained(recipe)
        a_weight = 0.5 if (recipe.quantization or {}).get("load_in_4bit") else 2 if recipe.lora else 4
        size = 2 if recipe.lora else 4
        kept = {
            WEIGHTS: 1600 * MIB * a_weight,
            ADAPTERS: trained * 2 if recipe.lora else 0,
            GRADIENTS: trained * size,
            OPTIMIZER: trained * (2 if "8bit" in str(recipe.training_value("optim")) else 8),
        }
        stored = self.layers / way.every_n_layers if way.checkpointing else self.layers * 16
        stored += 0 if way.every_n_layers == 1 else 8 * self.layers
        stored += self.layers if (recipe.lora or {}).get("lora_dropout") else 0
        tokens = rows * length
        scores = rows * length * length * 16 if recipe.model.attn_implementation == "eager" else 0
        phases = {
            "forward pass": kept | {ACTIVATIONS: tokens * stored * 4096 + scores},
            "loss": kept | {ACTIVATIONS: tokens * stored * 4096, LOSS: tokens * 8192},
            "optimizer step": kept,
        }
        return Traced(phases, 1.05 * max(sum(parts.values()) for parts in phases.values()))

    def evaluation(self, recipe: Recipe, prompt: int) -> Traced:
        weights = 1600 * MIB * (0.5 if recipe.quantization else 2)
        rows = recipe.evaluation.batch_size
        cache = rows * (prompt + recipe.evaluation.max_new_tokens) * 16384
        phases = {"prompt": {WEIGHTS: weights, CACHE: cache / 2}, "last token": {WEIGHTS: weights, CACHE: cache}}
        return Traced(phases, weights + cache)

    def _trained(self, recipe: Recipe) -> int:
        return MIB * recipe.lora.get("r", 8) if recipe.lora else 1600 * MIB
