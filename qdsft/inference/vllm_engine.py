"""Decode the same prompts with vLLM. Experimental: the requests are tested, but vLLM itself was never run.

vLLM pins another torch, so it is not part of the tested stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.errors import UserError
from qdsft.inference.generate import Answer, read_answer
from qdsft.inference.loaded_run import RunPrompts
from qdsft.strict_json import read_object

CHUNK = 2048
"""Prompts per call: vLLM returns no answer before all are done."""
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for max_lora_rank."""


@dataclass(frozen=True)
class Request:
    """Everything that is passed to vLLM."""

    prompts: list[dict[str, list[int]]]
    """`{"prompt_token_ids": ids}` for each prompt: with token ids vLLM adds no BOS and applies no chat template."""
    sampling: dict[str, Any]
    """Arguments of vllm.SamplingParams."""
    engine: dict[str, Any]
    """Arguments of vllm.LLM."""
    adapter: dict[str, Any] | None
    """Arguments of vllm.lora.request.LoRARequest."""


def make_request(
    run: RunPrompts, prompts: Sequence[Sequence[int]], *, otherwise: str = "use --engine transformers"
) -> Request:
    """Return a request that decodes token ids from `RunPrompts.encode` as `generate` does.

    Raises UserError, with the remedy `otherwise`, for an adapter that vLLM cannot serve.
    """
    is_adapter = run.manifest.artifact == "adapter"
    folder = run.manifest.weights_folder(run.run_dir)
    engine: dict[str, Any] = {
        "model": run.recipe.model.name_or_path if is_adapter else str(folder),
        "tokenizer": str(folder),
        "revision": run.recipe.model.revision if is_adapter else None,
        "trust_remote_code": run.recipe.model.trust_remote_code,
        "dtype": "float32" if run.recipe.model.dtype == "float32" else "auto",
        "seed": 0,
    }
    if run.recipe.quantization:
        engine["quantization"] = "bitsandbytes"
    if is_adapter:
        engine |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _max_rank(folder, otherwise)}
    sampling = {
        "temperature": 0.0,
        "max_tokens": run.max_new_tokens,
        "stop_token_ids": list(run.manifest.stop_token_ids),
        "detokenize": False,
    }
    adapter = {"lora_name": "adapter", "lora_int_id": 1, "lora_path": str(folder.absolute())} if is_adapter else None
    return Request([{"prompt_token_ids": list(ids)} for ids in prompts], sampling, engine, adapter)


def stream_ids(run: RunPrompts, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[int, Answer]]:
    """Yield (index into `prompts`, greedy answer). Raises UserError without vLLM, and as `make_request` does."""
    request = make_request(run, prompts)
    vllm = _import_vllm()
    adapter = None
    if request.adapter:
        from vllm.lora.request import LoRARequest

        adapter = LoRARequest(**request.adapter)
    engine = vllm.LLM(**request.engine)
    sampling = vllm.SamplingParams(**request.sampling)
    for start in range(0, len(prompts), CHUNK):
        outputs = engine.generate(request.prompts[start : start + CHUNK], sampling, lora_request=adapter)
        for index, output in enumerate(outputs, start=start):  # in the order of the prompts
            yield index, read_answer(run.tokenizer, list(output.outputs[0].token_ids), run.manifest.stop_token_ids)


def check_installed() -> None:
    """Raise UserError, with the remedy, if vLLM cannot be imported."""
    _import_vllm()


def _import_vllm() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise UserError(
            "--engine vllm requires vLLM; install it in a separate environment with: pip install 'vllm>=0.30', or "
            "use --engine transformers"
        ) from error
    return vllm


def _max_rank(folder: Path, otherwise: str) -> int:
    """Return the smallest max_lora_rank for the adapter in `folder`."""
    config = read_object(folder / "adapter_config.json", "put it back or train again")
    for key in ("use_dora", "modules_to_save"):
        if config.get(key):
            raise UserError(f"{folder}: vLLM does not support adapters with {key}; {otherwise}")
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    fitting = [allowed for allowed in _RANKS if allowed >= rank]
    if not fitting:
        raise UserError(f"{folder}: vLLM supports adapters up to r {_RANKS[-1]}, not {rank}; {otherwise}")
    return fitting[0]
