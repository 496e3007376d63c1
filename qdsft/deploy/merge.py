"""Stage: an adapter merged into its base model, with a certificate of how far the two agree."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from qdsft.console import say
from qdsft.data.examples import Example
from qdsft.deploy.merge_agreement import Observed, Questions, compare, failures, limits
from qdsft.deploy.merge_weights import SHARD_BYTES, Dequantized, Merge
from qdsft.errors import UserError
from qdsft.files import disk_errors, exclusive, new_directory, write_json, write_text
from qdsft.hashing import file_sha256
from qdsft.inference.generation_config import generation_config
from qdsft.inference.loaded_run import LoadedRun, RunPrompts, load_prompts, load_weights
from qdsft.model.attention import decoding_attention
from qdsft.model.loading import load_config
from qdsft.model.quantization import dequantized_weights
from qdsft.model.weight_files import BaseWeights, open_base
from qdsft.runs.card import render_card
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.runs.layout import CARD, MERGE_FILE
from qdsft.runs.manifest import Manifest, read_adapter_run, write_manifest
from qdsft.runs.provenance import versions
from qdsft.runs.public import public_manifest, refuse_output
from qdsft.runs.results import brief_metrics, method, read_example, to_json

Base = Literal["auto", "original", "dequantized"]
OTHER = "choose another --output"


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
) -> dict[str, Any]:
    """Merge a run's adapter into its base model; `output` appears once it is whole. Returns its merge.json.

    The sums are done in float32, one tensor at a time, and cast once to `dtype`. For an adapter that was trained on
    a quantized base model, `auto` merges into the original base and into the de-quantized one, and keeps that which
    agrees better, by mean KL divergence, with the adapter as it was trained. Agreement is measured on `samples`
    held-out rows (golden prompts where none were held out), unless `check` is off.

    Raises UserError for a run without an adapter, an `output` that exists, too little disk, and as `load_prompts`,
    `load_weights` and `merge_weights.Merge` do.
    """
    manifest = manifest or read_adapter_run(run_dir)
    refuse_output(output)
    candidates = _candidates(run_dir, bool(manifest.recipe.get("quantization")), base, check)
    prompts = load_prompts(run_dir, manifest)
    config = load_config(prompts.recipe)
    if getattr(config, "quantization_config", None):
        raise UserError(f"{prompts.recipe.model.name_or_path}: is saved quantized; merge into the model that it was")
    plan = Merge(
        manifest.folder(run_dir), config, trust_remote_code=prompts.recipe.model.trust_remote_code
    )  # before anything is loaded: what cannot be merged is refused now
    wanted: torch.dtype = getattr(torch, dtype)
    with exclusive(output, OTHER), new_directory(output, OTHER) as folder:
        with open_base(prompts.recipe, manifest.base_model.revision) as weights:
            _announce(output, weights, prompts, wanted, candidates, check)
            found, formats = _make(folder, plan, weights, prompts, candidates, wanted, (samples, batch_size, check))
        chosen = min(found, key=lambda name: found[name]["logits"]["mean_kl"]) if check else candidates[0]
        _keep(folder, chosen)
        certificate = _certificate(prompts, chosen, dtype, found, formats)
        public = public_manifest(manifest, merged_dtype=dtype)
        write_manifest(folder, public)
        write_text(folder / CARD, render_card(run_dir, manifest, name=output.name, merge=certificate))
        certificate["files"] = {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
        write_json(folder / MERGE_FILE, certificate)
    return certificate


def _candidates(run_dir: Path, quantized: bool, base: Base, check: bool) -> list[str]:
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


def _announce(
    output: Path, weights: BaseWeights, prompts: RunPrompts, dtype: torch.dtype, candidates: list[str], check: bool
) -> None:
    """Say what is needed; raises UserError unless the disk has room for it."""
    sizes = [prod(shape) for shape in weights.shapes().values()]
    count = sum(sizes)
    merged = count * dtype.itemsize
    quantized = prompts.recipe.quantization or {}
    width = 0.6 if quantized.get("load_in_4bit") else 1.1 if quantized else 4 if not torch.cuda.is_available() else 2
    shard = min(SHARD_BYTES, merged) + 8 * max(sizes)
    memory = shard + (count * width if "dequantized" in candidates else 0)
    if check:
        memory = max(memory, count * width, merged)
    disk = merged * len(candidates)
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


def _make(
    folder: Path,
    plan: Merge,
    weights: BaseWeights,
    prompts: RunPrompts,
    candidates: list[str],
    dtype: torch.dtype,
    how: tuple[int, int | None, bool],
) -> tuple[dict[str, Any], list[torch.dtype]]:
    """Write every candidate to a folder of its name; returns (figures by candidate, formats of the models)."""
    samples, batch_size, check = how
    questions = _questions(prompts, samples)
    size = batch_size or prompts.recipe.evaluation.batch_size
    trained: LoadedRun | None = None
    with _enough_memory(prompts.run_dir):
        if check or "dequantized" in candidates:
            trained = load_weights(prompts)
        before, sequences = None, []
        if check and trained:
            say(f"the adapter as trained, on {trained.machine.name}")
            sequences = questions.sequences(trained)
            before = questions.observe(trained, sequences, size)
        for name in candidates:
            say(f"merging into the {name} base")
            (folder / name).mkdir()
            values: Dequantized | None = None
            if name == "dequantized" and trained:
                values = dequantized_weights(trained.model)
            plan.write(weights, folder / name, dtype, values)
            _write_companions(folder / name, plan, prompts, dtype)
        if not before or not trained:
            return {}, [dtype]
        formats, shell = [dtype, trained.model.dtype], replace(trained, model=None)
        del trained, values
        _free()
        found = {}
        for name in candidates:
            say(f"comparing: merged into the {name} base")
            found[name] = compare(before, _observe(folder / name, shell, dtype, questions, (sequences, size)))
            _free()
    return found, formats


def _observe(
    folder: Path,
    shell: LoadedRun,
    dtype: torch.dtype,
    questions: Questions,
    asked: tuple[list[tuple[list[int], int]], int],
) -> Observed:
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=decoding_attention(shell.recipe.model.attn_implementation),
        trust_remote_code=shell.recipe.model.trust_remote_code,
    )
    size = sum(parameter.nbytes for parameter in model.parameters())
    device = shell.machine.device
    if device == "cuda" and torch.cuda.mem_get_info()[0] < 1.2 * size:
        say("the merged model does not fit onto the card beside its cache; comparing on the CPU")
        device = "cpu"
    return questions.observe(replace(shell, model=model.to(device).eval()), *asked)


def _questions(prompts: RunPrompts, samples: int) -> Questions:
    examples: list[Example] = []
    if prompts.manifest.data.eval_rows:
        examples = read_eval_rows(prompts.run_dir, samples)
    golden = [golden.messages for golden in prompts.manifest.golden_prompts]
    return Questions([example.messages for example in examples] or list(golden), examples)


def _keep(folder: Path, chosen: str) -> None:
    """Move the chosen candidate's files up, and delete the others."""
    for path in (folder / chosen).iterdir():
        path.rename(folder / path.name)
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        shutil.rmtree(path)


def _write_companions(folder: Path, plan: Merge, prompts: RunPrompts, dtype: torch.dtype) -> None:
    """Everything beside the weights: config, generation config, tokenizer and chat template, code of the model."""
    config = plan.config
    config.dtype = dtype
    if plan.unties:
        config.get_text_config().tie_word_embeddings = False
        config.tie_word_embeddings = False
    config.save_pretrained(folder)
    write_json(folder / "generation_config.json", generation_config(prompts.manifest, prompts.tokenizer))
    prompts.tokenizer.save_pretrained(folder)
    base = Path(prompts.recipe.model.name_or_path)
    if getattr(config, "auto_map", None) and base.is_dir():
        for code in base.glob("*.py"):
            shutil.copyfile(code, folder / code.name)


def _certificate(
    prompts: RunPrompts, chosen: str, dtype: str, found: dict[str, Any], formats: list[torch.dtype]
) -> dict[str, Any]:
    allowed = limits(formats)
    failed = failures(found[chosen], allowed) if found else []
    manifest = prompts.manifest
    return {
        "qdsft_merge": 1,
        "passed": not failed if found else None,
        "failed": failed,
        "base": chosen,
        "dtype": dtype,
        "method": f"{method(manifest)}, merged",
        "base_model": public_manifest(manifest).base_model.model_dump(),
        "thresholds": allowed,
        "candidates": found,
        "results_of_adapter": to_json(brief_metrics(prompts.run_dir)),
        "example": read_example(prompts.run_dir),
        "questions": "held-out rows" if manifest.data.eval_rows else "golden prompts",
        "run": manifest.sha256(),
        "versions": versions(),
    }


@contextmanager
def _enough_memory(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{run_dir}: the device ran out of memory; set CUDA_VISIBLE_DEVICES= to merge on the CPU, or leave the "
            "comparison out with --no-check"
        ) from error


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
