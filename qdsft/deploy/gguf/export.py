"""Export a run's model as one GGUF file for llama.cpp and Ollama, checked before it gets its name."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qdsft.console import say
from qdsft.deploy.gguf import llama_cpp
from qdsft.deploy.gguf.convert import check_file, convert, find_converter, stage_for_conversion
from qdsft.deploy.gguf.modelfile import modelfile
from qdsft.deploy.served_folder import merge_command, served_name
from qdsft.errors import UserError
from qdsft.files import disk_errors, refuse_existing, replacing, write_text
from qdsft.inference.loaded_run import RunPrompts, check_weight_files, load_prompts, load_weights
from qdsft.optional_packages import require
from qdsft.runs.manifest import GoldenPrompt, Manifest


@dataclass(frozen=True)
class Exported:
    """A written GGUF file."""

    tensors: int
    prompts: int | None
    """Golden prompts whose token ids llama.cpp confirmed; None without llama.cpp."""
    equal: int | None
    """Golden prompts with the same greedy answer in llama.cpp; None if not compared."""
    modelfile: Path


def export_gguf(
    run_dir: Path,
    output: Path,
    *,
    kind: str = "f16",
    converter: Path | None = None,
    answers: bool = False,
    manifest: Manifest | None = None,
    trust_remote_code: bool = False,
) -> Exported:
    """Write a run's model to the new file `output`, and a Modelfile beside it.

    `kind` is f32, f16, bf16 or q8_0. `answers` also compares greedy answers to the golden prompts. Raises UserError for
    an adapter, an `output` or Modelfile that exists, a model that cannot be converted, a file that does not match the
    run, `answers` without llama.cpp, and as `load_prompts` does.
    """
    run = load_prompts(run_dir, manifest, trust_remote_code=trust_remote_code)
    if run.manifest.artifact == "adapter":
        raise UserError(f"{run_dir}: a GGUF file holds a whole model; {merge_command(run_dir, 'export')}")
    beside = output.with_name(f"{output.stem}.Modelfile")
    refuse_existing(output)
    refuse_existing(beside)
    command = find_converter(converter)
    require("gguf", "qdsft export-gguf", "gguf", "sentencepiece")
    if answers:
        require("gguf", "--check-answers", "xllamacpp")
    check_weight_files(run)
    with disk_errors(output, "choose another --output"):
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as temporary:
            with tempfile.TemporaryDirectory(prefix="qdsft-gguf-") as above:
                folder = Path(above) / served_name(run_dir)
                stage_for_conversion(run, folder)
                say(f"converting to {kind}")
                convert(command, folder, temporary, kind)
            facts = check_file(temporary, run)
            prompts = _check_prompts(temporary, run)
            equal = _equal_answers(temporary, run) if answers else None
        write_text(beside, modelfile(run, output, add_bos=facts.add_bos))
    return Exported(facts.tensors, prompts, equal, beside)


def _check_prompts(path: Path, run: RunPrompts) -> int | None:
    """Return how many golden prompts have their token ids in llama.cpp, None without it; raises UserError."""
    if not llama_cpp.is_installed():
        return None
    golden = run.manifest.golden_prompts
    found = llama_cpp.ask(path, [prompt.messages for prompt in golden])
    for prompt, seen in zip(golden, found, strict=True):
        if seen.ids != prompt.ids:
            raise UserError(f"{path}: {_difference(run, prompt, seen.ids)}; use qdsft serve instead")
    return len(golden)


def _equal_answers(path: Path, run: RunPrompts) -> int:
    conversations = [golden.messages for golden in run.manifest.golden_prompts]
    found = llama_cpp.ask(path, conversations, max_new_tokens=run.max_new_tokens)
    own = load_weights(run).answer(conversations)
    return sum(_whole(seen.answer or "") == _whole(answer.text) for seen, answer in zip(found, own, strict=True))


def _whole(text: str) -> str:
    """Return a text up to the first incomplete character, which transformers and llama.cpp show differently."""
    return text.strip().partition("\ufffd")[0]


def _difference(run: RunPrompts, prompt: GoldenPrompt, ids: Sequence[int]) -> str:
    place = next(
        (i for i, pair in enumerate(zip(prompt.ids, ids, strict=False)) if pair[0] != pair[1]), len(prompt.ids)
    )
    trained, other = (run.tokenizer.convert_ids_to_tokens(list(row[place : place + 3])) for row in (prompt.ids, ids))
    return (
        f"llama.cpp reads the prompt {prompt.messages[-1]['content'][:40]!r} as other tokens than in training (from "
        f"token {place} on {other}, not {trained})"
    )
