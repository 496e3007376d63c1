"""What must hold before the first step, each as a line of a table: seen on the user's own stack, data and disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from qdsft.errors import UserError
from qdsft.files import disk_errors
from qdsft.model.hub import check_write
from qdsft.planning.memory.config_file import read_config
from qdsft.planning.memory.setup import read_setup
from qdsft.planning.memory.shapes import read_shapes
from qdsft.planning.memory.training_memory import training_peak
from qdsft.recipe import Recipe
from qdsft.tokenization.chat_template import encode_prompts
from qdsft.tokenization.prepared import Prepared
from qdsft.tokenization.rows import IGNORED, last_token
from qdsft.training.isolation import check_isolation
from qdsft.training.memory_probe import longest_rows, probe_memory
from qdsft.training.saved_weights import save_weights
from qdsft.training.trainer import RecipeTrainer

ROWS_READ = 1000
"""Prepared rows that are read back; the encoder has checked all of them as it wrote them."""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, whether it holds, and what was found or has to be done."""

    name: str
    passed: bool
    found: str

    def to_json(self) -> dict[str, Any]:
        """As run.json keeps it."""
        return asdict(self)


@dataclass(frozen=True)
class Readiness:
    """A run that is built and has not taken a step."""

    recipe: Recipe
    trainer: RecipeTrainer
    prepared: Prepared
    stop_ids: Sequence[int]

    def checks(self, *, thorough: bool) -> Iterator[Check]:
        """Each check in turn, whatever became of those before it; `thorough` adds the memory probe."""
        sharded = self.trainer.is_deepspeed_enabled or self.trainer.is_fsdp_enabled
        yield _check("stop token", self._stop)
        yield _check("loss mask", self._mask)
        yield _check("BOS", self._bos)
        yield _check("prompt ids", self._prompt_ids)
        if self.recipe.packing:
            yield self._sharded("isolation") if sharded else _check("isolation", self._isolation)
        yield _check("disk", self._disk)
        if self.recipe.publish.hub_model_id:
            yield _check("Hub", self._hub)
        yield self._sharded("trial save") if sharded else _check("trial save", self._trial_save)
        if thorough:
            yield self._sharded("memory") if sharded else _check("memory", self._memory)

    @cached_property
    def samples(self) -> list[tuple[list[int], list[int]]]:
        """(ids, labels) of training samples as they lie on the disk, packed ones apart."""
        return list(self._read_samples())

    def _read_samples(self) -> Iterator[tuple[list[int], list[int]]]:
        for row in self.prepared.train.select(range(min(ROWS_READ, len(self.prepared.train)))):
            start = 0
            for length in row.get("seq_lengths") or [len(row["input_ids"])]:
                yield row["input_ids"][start : start + length], row["labels"][start : start + length]
                start += length

    def _stop(self) -> str:
        tokenizer = self.trainer.processing_class
        for _, labels in self.samples:
            answer = [label for label in labels if label != IGNORED]
            if not answer or labels[-1] == IGNORED or last_token(tokenizer, answer, self.stop_ids) not in self.stop_ids:
                raise UserError(
                    f"a sample ends in token {labels[-1]}, at which generation does not stop; end the answer in the "
                    "chat template with the tokenizer's end token"
                )
        names = tokenizer.convert_ids_to_tokens(list(self.stop_ids))
        return f"{len(self.samples)} samples end, inside the loss, in one of {', '.join(map(str, names))}"

    def _mask(self) -> str:
        total = supervised = 0
        for _, labels in self.samples:
            answer = sum(label != IGNORED for label in labels)
            if answer in {0, len(labels)}:
                raise UserError("a sample has no prompt or no answer; look at it with qdsft inspect")
            total, supervised = total + len(labels), supervised + answer
        return f"{supervised / total:.0%} of {total} tokens carry loss"

    def _bos(self) -> str:
        bos = self.trainer.processing_class.bos_token_id
        counts = sorted({ids.count(bos) for ids, _ in self.samples}) if bos is not None else [0]
        if len(counts) > 1 or counts[0] > 1:
            raise UserError(f"samples carry {counts} BOS tokens; write it once in the chat template, or never")
        return f"{counts[0]} in each sample, as the chat template writes it"

    def _prompt_ids(self) -> str:
        golden = self.prepared.golden_prompts
        ids = encode_prompts(self.trainer.processing_class, [prompt["messages"] for prompt in golden])
        if ids != [prompt["ids"] for prompt in golden]:
            raise UserError("prompts get other token ids than the prepared data have; delete the cache ($QDSFT_CACHE)")
        return f"{len(golden)} prompts get the ids that they have in the training rows"

    def _isolation(self) -> str:
        samples = [prompt["ids"] for prompt in self.prepared.golden_prompts]
        change = check_isolation(self.trainer, samples, self.recipe)
        return f"a packed sample's logits move by {change:.1g} of their spread when its neighbour changes"

    def _disk(self) -> str:
        needed, free = check_disk(self.recipe.run_dir, self.trainer, self.recipe)
        return f"{size(needed)} needed, {size(free)} free"

    def _hub(self) -> str:
        name = self.recipe.publish.hub_model_id
        assert name is not None
        return f"{check_write(name)} may write to {name}"

    def _trial_save(self) -> str:
        folder = self.recipe.run_dir / "trial-save"
        tensors = save_weights(self.trainer, folder, trained=False)
        if self.trainer.is_world_process_zero():
            shutil.rmtree(folder)
        return f"{tensors} tensors written, reopened and compared"

    def _memory(self) -> str:
        peak = probe_memory(self.trainer, self.recipe)
        planned = self._planned()
        measured = "no device memory to measure here" if peak is None else f"peak {peak:.2f} GiB"
        return f"two optimizer steps on the longest rows and an evaluation step ran; {measured}{planned}"

    def _planned(self) -> str:
        """The modelled peak on a CUDA card, of what the allocator holds, as `qdsft plan` has it; "" if it has none."""
        trainer = self.trainer
        longest = len(longest_rows(trainer.train_dataset, 1)[0]["input_ids"])
        try:
            config, where = read_config(self.recipe)
            setup = read_setup(self.recipe, length=longest, gpus=trainer.accelerator.num_processes)
            kwargs = trainer.args.activation_checkpointing_kwargs or {}
            setup = replace(
                setup,
                checkpointing=trainer.args.activation_checkpointing,
                every_n_layers=kwargs.get("every_n_layers", 1),
            )
            peak = training_peak(read_shapes(config, where), setup)
        except UserError:  # an architecture that plan does not know
            return ""
        return f"; {peak.allocated / 2**30:.2f} GiB modelled for a CUDA card"

    @staticmethod
    def _sharded(name: str) -> Check:
        return Check(name, True, "not checked: the weights are sharded over processes")


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except UserError as error:
        return Check(name, False, str(error))


def check_disk(run_dir: Path, trainer: RecipeTrainer, recipe: Recipe) -> tuple[int, int]:
    """(needed, free) bytes on the run's disk; raises UserError unless the checkpoints and the result fit.

    Needed: 4 a trained weight and 8 for its two AdamW moments, for each kept checkpoint and the one being
    written, and 4 a weight for the result.
    """
    weights = sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters() if p.requires_grad)
    kept = (recipe.training_value("save_total_limit") or 1) + 1
    needed = weights * (12 * kept + 4)
    with disk_errors(run_dir):
        free = shutil.disk_usage(run_dir).free
    if needed > free:
        raise UserError(
            f"{run_dir}: {size(needed)} are needed for {kept} checkpoints and the result, and {size(free)} are "
            "free; free some space, lower training.save_total_limit, or choose another disk with training.output_dir"
        )
    return needed, free


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
