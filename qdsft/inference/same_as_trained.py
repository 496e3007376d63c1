"""Compare a run's base model, tokenizer and chat template with what its run.json says of the training."""

from __future__ import annotations

from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from qdsft.errors import UserError
from qdsft.hashing import text_sha256
from qdsft.model.loading import config_sha256
from qdsft.model.template import writes_date
from qdsft.recipe import Recipe
from qdsft.runs.layout import MANIFEST
from qdsft.runs.manifest import Manifest
from qdsft.tokenization.chat_template import encode_prompts


def check_base(run_dir: Path, recipe: Recipe, manifest: Manifest, config: PretrainedConfig) -> None:
    """Raise UserError unless the config of an adapter's base model is the one of the training."""
    if manifest.artifact != "adapter":
        return
    if config_sha256(config) != manifest.base_model.config_sha256:
        raise UserError(
            f"{run_dir}: the base model at {recipe.model.name_or_path} is not the one that the adapter was trained on "
            "(its config.json differs); put the original back"
        )


def check_vocabulary(run_dir: Path, manifest: Manifest, config: PretrainedConfig) -> None:
    """Raise UserError for token ids in run.json that the model does not have."""
    size = config.get_text_config().vocab_size
    prompts = [token for golden in manifest.golden_prompts for token in golden.ids]
    for key, ids in (("stop_token_ids", manifest.stop_token_ids), ("golden_prompts", prompts)):
        if max(ids) >= size:
            raise UserError(
                f"{run_dir / MANIFEST}: {key}: {max(ids)} is not a token of the model, which has {size}; put the "
                "original back or train again"
            )


def check_golden_prompts(run_dir: Path, manifest: Manifest, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError unless template and tokenizer yield the ids that the run was trained on."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or text_sha256(template) != manifest.template_sha256:
        raise UserError(
            f"{manifest.weights_folder(run_dir) / 'chat_template.jinja'}: not the template that this run was trained "
            "with; put the original back or train again"
        )
    if writes_date(template):
        raise UserError(
            f"{manifest.weights_folder(run_dir)}: the chat template writes today's date, and this run was trained "
            "before qdsft fixed that date; train again"
        )
    for golden in manifest.golden_prompts:
        if encode_prompts(tokenizer, [golden.messages])[0] != golden.ids:
            raise UserError(
                f"{manifest.weights_folder(run_dir)}: the tokenizer no longer yields the token ids that this run was "
                "trained on; put its files back, or install the versions listed in run.json"
            )
