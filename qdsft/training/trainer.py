"""Extend TRL's SFTTrainer: atomic checkpoints, decoded evaluations, exact resumes, and a faster loss on a CPU."""

from __future__ import annotations

import math
import os
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import accelerate.utils.other
import torch
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from qdsft.files import sync, sync_folder
from qdsft.launch import uses_deepspeed
from qdsft.model.device import fork_rng
from qdsft.runs.checkpoints import RUN_DIGEST, SAVING, complete_checkpoints, remove_checkpoint
from qdsft.runs.layout import CHECKPOINT
from qdsft.training import cpu_loss
from qdsft.training.callbacks import EarlyStopping, StopRequest
from qdsft.training.checkpoint_files import checkpoint_errors
from qdsft.training.decode_held_out import PREFIX, TrainingEvaluation
from qdsft.training.non_finite import NonFiniteStop
from qdsft.training.token_means import TokenMeans

_is_deepspeed_available = accelerate.utils.other.is_deepspeed_available


class RecipeTrainer(SFTTrainer):
    """SFTTrainer whose checkpoints are complete, whose evaluations change nothing, and whose resumes are exact."""

    held_out: TrainingEvaluation | None = None
    """Decodes and scores held-out rows at each evaluation; None without evaluation.every_steps."""
    stop_request: StopRequest | None = None
    """Receives the signals that stop this run; None before training starts."""
    run_digest = ""
    """Digest of the run's fingerprint, written into each checkpoint: a resume uses no other run's checkpoints."""
    initial_adapter: dict[str, torch.Tensor] | None = None
    """The adapter before the first step, if the base model was reduced by it (`lora_init`)."""
    aux_loss_enabled: bool
    """Set by SFTTrainer: whether the loss includes the balance loss of a mixture-of-experts model."""
    _saving = False

    def __init__(self, **arguments: Any) -> None:
        # To unwrap a model, accelerate imports DeepSpeed wherever it is installed: 570 modules, and on a GPU an error
        # without nvcc. As long as this trainer lives, accelerate imports DeepSpeed only if the launcher asked for it.
        accelerate.utils.other.is_deepspeed_available = uses_deepspeed
        weakref.finalize(
            self, setattr, accelerate.utils.other, "is_deepspeed_available", _is_deepspeed_available
        ).atexit = False
        self.non_finite = NonFiniteStop()
        self._token_means = TokenMeans()
        super().__init__(**arguments)
        parallelism = getattr(self.accelerator, "parallelism_config", None)
        if parallelism is None or not parallelism.sp_enabled:
            # Some model classes do not take num_items_in_batch, and the trainer would then average over micro-batches.
            # TRL's loss divides by it without the model.
            self.model_accepts_loss_kwargs = True

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        """Compute the loss as SFTTrainer does, on a CPU with the faster function of `cpu_loss`."""
        with cpu_loss.used_by_trl() if self.args.use_cpu else nullcontext():
            return super().compute_loss(*arguments, **options)

    def training_step(self, *arguments: Any, **options: Any) -> Any:
        """Return the loss of a micro-batch, which `non_finite` watches."""
        loss = super().training_step(*arguments, **options)
        self.non_finite.add_loss(loss)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.non_finite.check_step(self, norm)  # the only place between the backward pass and the optimizer step
        return norm

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Return the trainer's metrics and those of the decoded rows. Evaluating does not affect later training."""
        # A data loader draws its seed from the global random state, which also orders the training rows.
        with fork_rng():
            return self._evaluate_and_decode(*arguments, **options)

    def _evaluate_and_decode(self, *arguments: Any, **options: Any) -> dict[str, float]:
        metrics: dict[str, float] = super().evaluate(*arguments, **options)
        if self.held_out is not None:
            metrics |= self._decode(self.held_out, metrics)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStopping):
                callback.count(self.args, self.state, self.control, metrics)
        if self.stop_request is not None and self.stop_request.any_process_was_asked(self.args):
            self.stop_request.stop(self.state, self.control)  # the checkpoint of this step is saved next
        return metrics

    def evaluation_loop(self, *arguments: Any, metric_key_prefix: str = "eval", **options: Any) -> EvalLoopOutput:
        """Return what transformers does, with the loss and TRL's metrics averaged over supervised tokens."""
        self._token_means = TokenMeans()
        balanced = self.aux_loss_enabled
        self.aux_loss_enabled = False  # the balance loss depends on the batch
        try:
            output = super().evaluation_loop(*arguments, metric_key_prefix=metric_key_prefix, **options)
        finally:
            self.aux_loss_enabled = balanced
        if (loss := self._token_means.loss(self.accelerator)) is not None:
            output.metrics[f"{metric_key_prefix}_loss"] = loss
        self._token_means.weigh(self._metrics["eval"], self.accelerator)
        return output

    def prediction_step(self, model: Any, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """Return what SFTTrainer does, and keep the loss for the mean per token."""
        result = super().prediction_step(model, inputs, *arguments, **options)
        self._token_means.add(result[0], inputs)
        return result

    def _decode(self, held_out: TrainingEvaluation, metrics: dict[str, float]) -> dict[str, float]:
        decoded = held_out(self)
        if decoded:
            self.log(dict(decoded))
        if (wanted := self._wanted_metric()) and wanted not in metrics and wanted not in decoded:
            # Decoding failed, or no row has the metric. NaN compares as no better than the best so far.
            decoded = {**decoded, wanted: math.nan}
        return decoded

    def _wanted_metric(self) -> str | None:
        name = self.args.metric_for_best_model
        return name if name is None or name.startswith(PREFIX) else f"{PREFIX}{name}"

    def _get_output_dir(self, trial: Any) -> str:
        folder: str = super()._get_output_dir(trial)
        return str(Path(folder) / SAVING) if self._saving else folder

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint under a temporary name, and rename it when every process has written its part."""
        self.non_finite.check_weights(self)
        run_dir = Path(self.args.output_dir)
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._saving = False
        name = f"{CHECKPOINT}{self.state.global_step}"
        if self.state.best_global_step:
            best = run_dir / f"{CHECKPOINT}{self.state.best_global_step}"
            known = best.is_dir() or best.name == name
            self.state.best_model_checkpoint = str(best) if known else None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            (run_dir / SAVING / name / RUN_DIGEST).write_text(self.run_digest, encoding="utf-8")
            self.state.save_to_json(str(run_dir / SAVING / name / "trainer_state.json"))
            sync(run_dir / SAVING / name)
            if (run_dir / name).exists():  # an incomplete checkpoint of the same step, which the resume skipped
                remove_checkpoint(run_dir / name)
            os.replace(run_dir / SAVING / name, run_dir / name)
            sync_folder(run_dir)
            (run_dir / SAVING).rmdir()
            self._rotate(run_dir)
        self.accelerator.wait_for_everyone()

    def _rotate(self, run_dir: Path) -> None:
        """Remove the oldest checkpoints beyond save_total_limit, but neither the newest nor the best."""
        limit = self.args.save_total_limit
        if not limit:
            return
        complete, _ = complete_checkpoints(run_dir)
        kept = {complete[-1], Path(self.state.best_model_checkpoint or complete[-1])}
        old = [folder for folder in complete if folder not in kept]
        for folder in old[: max(len(complete) - max(limit, len(kept)), 0)]:
            remove_checkpoint(folder)

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        # transformers compares the step with max_steps only after a step, so a run resumed from its last checkpoint
        # would take one step too many. So would one that early stopping ended.
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*arguments, **options)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with checkpoint_errors(resume_from_checkpoint, "weights"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with checkpoint_errors(checkpoint or "", "optimizer or scheduler"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with checkpoint_errors(checkpoint or "", "random state"):
            super()._load_rng_state(checkpoint)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write nothing: `runs.card` writes README.md at the end of a run, without local paths."""
