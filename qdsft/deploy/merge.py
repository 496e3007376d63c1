"""Merge an adapter into its base model, and certify how far the two agree."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from qdsft.console import say
from qdsft.data.examples import Example
from qdsft.deploy.merge_agreement import Questions, compare_with_adapter, failures, limits
from qdsft.deploy.merge_weights import SHARD_BYTES, Dequantized, Merge
from qdsft.errors import UserError
from qdsft.files import disk_errors, exclusive, new_directory, refuse_existing_folder, write_json, write_text
from qdsft.hashing import file_sha256
from qdsft.inference.generation_config import generation_config
from qdsft.inference.loaded_run import LoadedRun, RunPrompts, load_prompts, load_weights
from qdsft.model.attention import decoding_attention
from qdsft.model.checked_weights import check_model
from qdsft.model.device_errors import device_errors
from qdsft.model.foreign_files import foreign_errors
from qdsft.model.loading import load_config
from qdsft.model.quantization import dequantized_weights
from qdsft.model.weight_files import BaseWeights, open_base
from qdsft.recipe import Recipe
from qdsft.recipe.saved_quantization import is_saved_quantized, saved_quantization
from qdsft.runs.card import render_card
from qdsft.runs.certificate import Agreement, Certificate, write_certificate
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.runs.layout import CARD
from qdsft.runs.manifest import Manifest, read_adapter_run, write_manifest
from qdsft.runs.provenance import versions
from qdsft.runs.public import public_manifest
from qdsft.runs.results import brief_metrics, method, read_example, to_json

Base = Literal["auto", "original", "dequantized"]
OTHER = "choose another --output"
_TOO_LITTLE_MEMORY = "set CUDA_VISIBLE_DEVICES= to merge on the CPU, or leave the comparison out with --no-check"


@dataclass(frozen=True)
class _Job:
    """A merge: what is merged, into which bases, and how the result is compared."""

    prompts: RunPrompts
    plan: Merge
    bases: list[str]
    dtype: torch.dtype
    samples: int
    batch_size: int
    check: bool


@dataclass(frozen=True)
class _Comparison:
    """Agreement by base, empty if it was not measured, and the dtypes of the compared models."""

    found: dict[str, Agreement]
    dtypes: list[torch.dtype]


def merge(
    run_dir: Path,
    output: Path,
    *,
    dtype: str = "bfloat16",
    base: Base = "auto",
    samples: int = 32,
    batch_size: int | None = None,
    check: bool = True,
    manifest: Manifest | None = None,
    trust_remote_code: bool = False,
) -> Certificate:
    """Merge a run's adapter into its base model and return the certificate; `output` appears when it is complete.

    The sums are computed in float32, one tensor at a time, and cast once to `dtype`. For an adapter trained on a
    quantized base model, `auto` merges into the original base and into the dequantized one, and keeps the merge with
    the lower mean KL divergence from the adapter as it was trained. Agreement is measured on `samples` held-out rows
    (golden prompts if none were held out), unless `check` is off.

    Raises UserError for a run without an adapter, an `output` that exists, too little disk, and as `load_prompts`,
    `load_weights` and `merge_weights.Merge` do.
    """
    manifest = manifest or read_adapter_run(run_dir)
    refuse_existing_folder(output)
    bases = _bases(run_dir, bool(manifest.recipe.get("quantization")), base, check)
    prompts = load_prompts(run_dir, manifest, trust_remote_code=trust_remote_code)
    config = load_config(prompts.recipe)
    if is_saved_quantized(config.to_dict()):
        bases = _dequantized_only(prompts.recipe, config, base)
    # Built before anything is loaded, because it refuses adapters that cannot be merged.
    plan = Merge(manifest.weights_folder(run_dir), config, trust_remote_code=prompts.recipe.model.trust_remote_code)
    size = batch_size or prompts.recipe.evaluation.batch_size
    job = _Job(prompts, plan, bases, getattr(torch, dtype), samples, size, check)
    with exclusive(output, OTHER), new_directory(output, OTHER) as folder:
        with open_base(prompts.recipe, manifest.base_model.revision) as weights:
            _announce(output, weights, job)
            compared = _make(folder, weights, job)
        found = compared.found
        chosen = min(found, key=lambda name: found[name].logits.mean_kl) if check else bases[0]
        _keep(folder, chosen)
        certificate = _certificate(prompts, chosen, dtype, compared)
        write_manifest(folder, public_manifest(manifest, merged_dtype=dtype))
        write_text(folder / CARD, render_card(run_dir, manifest, name=output.name, merge=certificate))
        certificate.files = {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
        write_certificate(folder, certificate)
    return certificate


def _bases(run_dir: Path, quantized: bool, base: Base, check: bool) -> list[str]:
    """Return the bases to merge into."""
    if not quantized:
        if base == "dequantized":
            raise UserError(f"{run_dir}: was not trained on a quantized base; leave out --base")
        return ["original"]
    if base != "auto":
        return [base]
    if not check:
        raise UserError(
            "which base agrees better is not known without the check; give --base too, or leave out --no-check"
        )
    return ["dequantized", "original"]


def _dequantized_only(recipe: Recipe, config: PretrainedConfig, base: Base) -> list[str]:
    """Return the base to merge into for a model that is saved quantized, and remove its quantization from the config.

    Raises UserError for another method than bitsandbytes.
    """
    name = recipe.model.name_or_path
    if saved_quantization(config.to_dict()) is None:
        raise UserError(f"{name}: saved quantized, and not by bitsandbytes; merge into the model it was made from")
    if base == "original":
        raise UserError(f"{name}: saved quantized, so that there is no original base; leave out --base")
    del config.quantization_config
    return ["dequantized"]


def _announce(output: Path, weights: BaseWeights, job: _Job) -> None:
    """Print the memory and disk that the merge requires; raises UserError if the disk has too little room."""
    sizes = [prod(shape) for shape in job.plan.shapes(weights).values()]
    count = sum(sizes)
    merged = count * job.dtype.itemsize
    quantized = job.prompts.recipe.quantization or {}
    width = 0.6 if quantized.get("load_in_4bit") else 1.1 if quantized else 4 if not torch.cuda.is_available() else 2
    shard = min(SHARD_BYTES, merged) + 8 * max(sizes)
    memory = shard + (count * width if "dequantized" in job.bases else 0)
    if job.check:
        memory = max(memory, count * width, merged)
    disk = merged * len(job.bases)
    with disk_errors(output, OTHER):
        free = shutil.disk_usage(output.resolve().parent).free
    say(
        f"merging {count / 1e6:,.1f} M weights: about {memory / 2**30:.2f} GiB of memory and {disk / 2**30:.2f} GiB of "
        f"disk ({free / 2**30:.2f} GiB are free)"
    )
    if disk > free:
        raise UserError(
            f"{output}: {disk / 2**30:.2f} GiB are needed and {free / 2**30:.2f} GiB are free; "
            f"free some space or {OTHER}"
        )


def _make(folder: Path, weights: BaseWeights, job: _Job) -> _Comparison:
    """Write the merge into each base to a folder with the base's name, and compare each with the adapter."""
    questions = _questions(job.prompts, job.samples)
    trained: LoadedRun | None = None
    with device_errors(f"comparing the merged model of {job.prompts.run_dir}", _TOO_LITTLE_MEMORY):
        if job.check or "dequantized" in job.bases:
            trained = load_weights(job.prompts)
        before, sequences = None, []
        if job.check and trained:
            say(f"the adapter as trained, on {trained.machine.name}")
            sequences = questions.sequences(trained)
            before = questions.observe(trained, sequences, job.batch_size)
        for name in job.bases:
            say(f"merging into the {name} base")
            (folder / name).mkdir()
            values: Dequantized | None = None
            if name == "dequantized" and trained:
                values = dequantized_weights(trained.model)
            job.plan.write(weights, folder / name, job.dtype, values)
            _write_companions(folder / name, job)
        if not before or not trained:
            return _Comparison({}, [job.dtype])
        dtypes, shell = [job.dtype, trained.model.dtype], replace(trained, model=None)
        del trained, values
        _free()
        found = {}
        for name in job.bases:
            say(f"comparing: merged into the {name} base")
            merged = _load_merged(folder / name, shell, job.dtype)
            found[name] = compare_with_adapter(before, questions.observe(merged, sequences, job.batch_size))
            del merged
            _free()
    return _Comparison(found, dtypes)


def _load_merged(folder: Path, shell: LoadedRun, dtype: torch.dtype) -> LoadedRun:
    model: Any
    with foreign_errors("weights", folder):
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=decoding_attention(shell.recipe.model.attn_implementation),
            trust_remote_code=shell.recipe.model.trust_remote_code,
            output_loading_info=True,
        )
    check_model(str(folder), model, info)
    size = sum(parameter.nbytes for parameter in model.parameters())
    device = shell.machine.device_type
    if device == "cuda" and torch.cuda.mem_get_info()[0] < 1.2 * size:
        say("the merged model does not fit into the GPU's free memory; comparing on the CPU")
        device = "cpu"
    return replace(shell, model=model.to(device).eval())


def _questions(prompts: RunPrompts, samples: int) -> Questions:
    examples: list[Example] = []
    if prompts.manifest.data.eval_rows:
        examples = read_eval_rows(prompts.run_dir, samples)
    golden: Sequence[Any] = [golden.messages for golden in prompts.manifest.golden_prompts]
    return Questions([example.messages for example in examples] or list(golden), examples)


def _keep(folder: Path, chosen: str) -> None:
    """Move the files of the chosen base up, and delete the other folders."""
    for path in (folder / chosen).iterdir():
        path.rename(folder / path.name)
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        shutil.rmtree(path)


def _write_companions(folder: Path, job: _Job) -> None:
    """Write everything beside the weights: config, generation config, tokenizer, chat template, the model's code."""
    config, prompts = job.plan.config, job.prompts
    config.dtype = job.dtype
    if job.plan.unties:
        config.get_text_config().tie_word_embeddings = False
        config.tie_word_embeddings = False
    config.save_pretrained(folder)
    write_json(folder / "generation_config.json", generation_config(prompts.manifest, prompts.tokenizer))
    prompts.tokenizer.save_pretrained(folder)
    base = Path(prompts.recipe.model.name_or_path)
    if prompts.recipe.model.trust_remote_code and getattr(config, "auto_map", None) and base.is_dir():
        for code in base.glob("*.py"):
            shutil.copyfile(code, folder / code.name)


def _certificate(prompts: RunPrompts, chosen: str, dtype: str, compared: _Comparison) -> Certificate:
    allowed = limits(compared.dtypes)
    failed = failures(compared.found[chosen], allowed) if compared.found else []
    manifest = prompts.manifest
    return Certificate.model_validate(
        {
            "passed": not failed if compared.found else None,
            "failed": failed,
            "base": chosen,
            "dtype": dtype,
            "method": f"{method(manifest)}, merged",
            "base_model": public_manifest(manifest).base_model.model_dump(),
            "thresholds": allowed,
            "candidates": compared.found,
            "results_of_adapter": to_json(brief_metrics(prompts.run_dir)),
            "example": read_example(prompts.run_dir),
            "questions": "held-out rows" if manifest.data.eval_rows else "golden prompts",
            "run": manifest.sha256(),
            "versions": versions(),
        }
    )


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
