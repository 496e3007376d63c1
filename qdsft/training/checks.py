"""Check a run before its first step, on the user's own packages, data and disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from qdsft.errors import SharedError, UserError
from qdsft.files import disk_errors
from qdsft.launch import zero_stage
from qdsft.model.device_errors import device_errors, less_memory
from qdsft.model.hub import check_write
from qdsft.planning.cards import Target
from qdsft.planning.fitting import Fitting
from qdsft.planning.way import Way
from qdsft.recipe import Recipe
from qdsft.tokenization.chat_template import encode_prompts
from qdsft.tokenization.prepared import Prepared
from qdsft.tokenization.rows import IGNORED, last_token
from qdsft.training.checkpointing_choice import run_rows
from qdsft.training.isolation import check_isolation, small_model
from qdsft.training.loss_check import check_fused_loss
from qdsft.training.memory_probe import longest_rows, probe_memory
from qdsft.training.memory_trace.tracer import StepTracer
from qdsft.training.run_setup import Run, RunInputs
from qdsft.training.saved_weights import save_weights
from qdsft.training.trainer import RecipeTrainer

ROWS_READ = 1000
"""Number of prepared rows to check. Every row was checked once when the data was prepared."""


NOT_YET = "not checked: DeepSpeed and FSDP distribute the weights or the optimizer when training starts"


@dataclass(frozen=True)
class Check:
    """The result of one check: its name, whether it passed, and the finding or the remedy."""

    name: str
    passed: bool
    found: str

    def to_json(self) -> dict[str, Any]:
        """Return the check as run.json holds it."""
        return asdict(self)


class Sample(NamedTuple):
    """A training sample as it is stored on disk, unpacked from its row."""

    ids: list[int]
    labels: list[int]


def require_checks(run: Run) -> list[Check]:
    """Run the checks and return their results. If one fails in any process, UserError is raised in all of them."""
    # The memory probe takes two steps: little on a GPU, much on a CPU, which can swap.
    thorough = run.inputs.recipe.preflight and run.inputs.machine.device_type == "cuda"
    checks = list(run_checks(run, thorough=thorough))
    failed = [found for found in gather_object([check.found for check in checks if not check.passed]) if found]
    if failed:
        raise SharedError(failed[0])
    return checks


def run_checks(run: Run, *, thorough: bool) -> Iterator[Check]:
    """Yield the result of every check; a failed check does not stop the next. `thorough` adds the memory probe.

    A check is a function that returns its finding, or raises UserError with the remedy.
    """
    trainer, inputs = run.trainer, run.inputs
    recipe, tokenizer, prepared = inputs.recipe, inputs.tokenizer, inputs.prepared
    samples = list(read_samples(prepared))

    def check(name: str, look: Callable[[], str]) -> Check:
        try:
            with device_errors(f"checking {name} before the first step", less_memory(recipe)):
                return Check(name, True, look())
        except UserError as error:
            return Check(name, False, str(error))

    yield check("stop token", lambda: _stop_token(samples, tokenizer, inputs.stop_ids))
    yield check("loss mask", lambda: _loss_mask(samples))
    yield check("BOS", lambda: _bos(samples, tokenizer))
    yield check("prompt ids", lambda: _prompt_ids(prepared, tokenizer))
    yield check("loss", lambda: _loss(trainer, samples[0], recipe))
    if recipe.shares_rows:
        yield check("isolation", lambda: _isolation(trainer, prepared, recipe))
    yield check("disk", lambda: _disk(trainer, recipe))
    if recipe.publish.hub_model_id:
        yield check("Hub", lambda: _hub(recipe))
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        yield Check("trial save", True, NOT_YET)
        if thorough:
            yield Check("memory", True, NOT_YET)
        return
    yield check("trial save", lambda: _trial_save(trainer, recipe))
    if thorough:
        yield check("memory", lambda: _memory(trainer, inputs))


def read_samples(prepared: Prepared) -> Iterator[Sample]:
    """Yield the samples of the first ROWS_READ training rows."""
    for row in prepared.train.select(range(min(ROWS_READ, len(prepared.train)))):
        start = 0
        for length in row.get("seq_lengths") or [len(row["input_ids"])]:
            yield Sample(row["input_ids"][start : start + length], row["labels"][start : start + length])
            start += length


def _stop_token(samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> str:
    for _, labels in samples:
        answer = [label for label in labels if label != IGNORED]
        if not answer or labels[-1] == IGNORED or last_token(tokenizer, answer, stop_ids) not in stop_ids:
            raise UserError(
                f"a sample ends in token {labels[-1]}, at which generation does not stop; end the answer in the "
                "chat template with the tokenizer's end token"
            )
    names = tokenizer.convert_ids_to_tokens(list(stop_ids))
    return f"{len(samples)} samples end, inside the loss, in one of {', '.join(map(str, names))}"


def _loss_mask(samples: Sequence[Sample]) -> str:
    total = supervised = 0
    for _, labels in samples:
        answer = sum(label != IGNORED for label in labels)
        if answer in {0, len(labels)}:
            raise UserError("a sample has no prompt or no answer; look at it with qdsft inspect")
        total, supervised = total + len(labels), supervised + answer
    return f"{supervised / total:.0%} of {total} tokens carry loss"


def _bos(samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase) -> str:
    bos = tokenizer.bos_token_id
    counts = sorted({sample.ids.count(bos) for sample in samples}) if bos is not None else [0]
    if len(counts) > 1 or counts[0] > 1:
        raise UserError(f"samples carry {counts} BOS tokens; write it once in the chat template, or never")
    return f"{counts[0]} in each sample, as the chat template writes it"


def _prompt_ids(prepared: Prepared, tokenizer: PreTrainedTokenizerBase) -> str:
    golden = prepared.facts.golden_prompts
    ids = encode_prompts(tokenizer, [prompt.messages for prompt in golden])
    if ids != [prompt.ids for prompt in golden]:
        raise UserError("prompts get other token ids than the prepared data have; delete the cache ($QDSFT_CACHE)")
    return f"{len(golden)} prompts get the ids that they have in the training rows"


def _loss(trainer: RecipeTrainer, sample: Sample, recipe: Recipe) -> str:
    if _is_sharded(trainer):
        return NOT_YET
    if trainer.is_deepspeed_enabled:
        trainer.model.to(trainer.args.device)  # as DeepSpeed does when training starts
    found = check_fused_loss(trainer, sample.ids, sample.labels, recipe)
    return f"{found.fused:.4g} nats a token by TRL's loss, {found.full:.4g} by the model's own logits"


def _is_sharded(trainer: RecipeTrainer) -> bool:
    """Return whether the weights are sharded, or on the CPU until training starts."""
    return bool(trainer.is_fsdp_enabled or zero_stage() == 3)


def _isolation(trainer: RecipeTrainer, prepared: Prepared, recipe: Recipe) -> str:
    samples = [prompt.ids for prompt in prepared.facts.golden_prompts]
    model, of_model = trainer.model, ""
    if _is_sharded(trainer):
        if not trainer.is_world_process_zero():
            return "checked in process 0"
        model = small_model(trainer)
        of_model = f", in a model of {model.config.get_text_config().num_hidden_layers} layers with the same config"
    elif trainer.is_deepspeed_enabled:
        model = trainer.model.to(trainer.args.device)  # as DeepSpeed does when training starts
    found = check_isolation(trainer, samples, recipe, model)
    return (
        f"a sample's logits move by {found.change:.1g} of their spread when its neighbour in the row changes "
        f"({found.tolerance:.1g} is allowed){of_model}"
    )


@dataclass(frozen=True)
class DiskSpace:
    """Bytes on the disk of the run directory."""

    needed: int
    free: int


def check_disk(run_dir: Path, trainer: RecipeTrainer, recipe: Recipe) -> DiskSpace:
    """Return what a run needs and what is free. Raises UserError unless the checkpoints and the result fit.

    A checkpoint needs 12 bytes per trained weight (4 for the weight, 8 for its AdamW moments), and there is one more
    than save_total_limit while it is written. The result needs 4 bytes per weight.
    """
    weights = sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters() if p.requires_grad)
    kept = (recipe.training_value("save_total_limit") or 1) + 1
    needed = weights * (12 * kept + 4)
    with disk_errors(run_dir):
        free = shutil.disk_usage(run_dir).free
    if needed > free:
        raise UserError(
            f"{run_dir}: {_size(needed)} are needed for {kept} checkpoints and the result, and {_size(free)} are "
            "free; free some space, lower training.save_total_limit, or choose another disk with training.output_dir"
        )
    return DiskSpace(needed, free)


def _disk(trainer: RecipeTrainer, recipe: Recipe) -> str:
    space = check_disk(recipe.run_dir, trainer, recipe)
    return f"{_size(space.needed)} needed, {_size(space.free)} free"


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _hub(recipe: Recipe) -> str:
    name = recipe.publish.hub_model_id
    assert name is not None
    return f"{check_write(name)} may write to {name}"


def _trial_save(trainer: RecipeTrainer, recipe: Recipe) -> str:
    folder = recipe.run_dir / "trial-save"
    tensors = save_weights(trainer, folder, trained=False)
    if trainer.is_world_process_zero():
        shutil.rmtree(folder)
    return f"{tensors} tensors written, reopened and compared"


def _memory(trainer: RecipeTrainer, inputs: RunInputs) -> str:
    peak = probe_memory(trainer, inputs.recipe)
    measured = "no device memory to measure here" if peak is None else f"peak {peak:.2f} GiB"
    return (
        f"two optimizer steps on the longest rows and an evaluation step ran; {measured}{_traced_peak(trainer, inputs)}"
    )


def _traced_peak(trainer: RecipeTrainer, inputs: RunInputs) -> str:
    """Return the peak that `qdsft plan` traces for this run, as a clause for the finding; "" if it cannot."""
    longest = len(longest_rows(trainer.train_dataset, 1)[0]["input_ids"])
    every = (trainer.args.activation_checkpointing_kwargs or {}).get("every_n_layers", 1)
    setup = replace(run_rows(inputs.recipe, longest), way=Way(bool(trainer.args.activation_checkpointing), every))
    target = Target(0, trainer.accelerator.num_processes)
    try:
        peak = Fitting(StepTracer(inputs.config, inputs.machine), target, None).peak(inputs.recipe, setup)
    except UserError:
        return ""
    return f"; {peak.allocated / 2**30:.2f} GiB traced"
