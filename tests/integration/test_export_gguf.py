"""GGUF files: what is in them and what llama.cpp makes of them. Ollama itself is not run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.tiny_run import make_run

from qdsft.cli.main import main
from qdsft.data.readers import stream_records
from qdsft.deploy.gguf import llama_cpp
from qdsft.deploy.gguf.convert import check_file
from qdsft.deploy.gguf.export import export_gguf
from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_prompts, load_run
from qdsft.runs.eval_rows import write_eval_rows
from qdsft.runs.facts import DataFacts
from qdsft.runs.manifest import read_manifest, write_manifest

TinyModel = Callable[[str], Path]
SAMPLE = ROOT / "data" / "examples" / "sample_train.jsonl"


CONVERTER = Path(os.environ["QDSFT_GGUF_CONVERTER"]) if os.environ.get("QDSFT_GGUF_CONVERTER") else None
needs_converter = pytest.mark.skipif(not CONVERTER, reason="QDSFT_GGUF_CONVERTER names no converter of llama.cpp")
needs_engine = pytest.mark.skipif(not llama_cpp.is_installed(), reason="the extra gguf is not installed")


QUESTIONS = (
    "Which films star both Finn Pike and Leon Marsh?",
    "Did Aristotle use a laptop, and was it  2.5 kg?",
    "넬 렐과 테사 렐이 모두 나온 영화는 무엇인가요?",
    "서울 größer als Tōkyō ☃?",
)


@pytest.mark.slow
@needs_converter
@needs_engine
@pytest.mark.parametrize(("architecture", "recipe"), [("llama", "llama2/full"), ("mistral", "mistral/full")])
def test_llama_cpp_decomposes_as_the_run_does(
    architecture: str, recipe: str, tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model(architecture), recipe)
    target = tmp_path / "out" / "model.gguf"
    assert (
        main(
            [
                "export-gguf",
                str(run_dir),
                "--output",
                str(target),
                "--type",
                "f32",
                "--check-answers",
                "--converter",
                str(CONVERTER),
            ]
        )
        == 0
    )
    expected = "2 golden prompts have their trained token ids in llama.cpp, and 2 of 2 greedy answers are the run's"
    assert expected in capsys.readouterr().out
    assert sorted(path.name for path in target.parent.iterdir()) == ["model.Modelfile", "model.gguf"]
    run = load_run(run_dir)
    conversations = [run.task.messages(run.task.typed_record(question)) for question in QUESTIONS]
    found = llama_cpp.ask(target, conversations, max_new_tokens=24)
    assert [seen.ids for seen in found] == run.encode(conversations)
    assert [(seen.answer or "").strip() for seen in found] == [answer.text for answer in run.answer(conversations)]

    if architecture == "llama":
        certify_in_llama_cpp(run_dir, target, capsys)


def certify_in_llama_cpp(run_dir: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Certify llama.cpp's own server for the run of a GGUF file, and not for another run."""
    examples = [load_run(run_dir).task.example(record) for record in islice(stream_records(SAMPLE), 8)]
    write_eval_rows(run_dir, examples)
    data = {**read_manifest(run_dir).data.model_dump(), "eval_rows": len(examples)}
    write_manifest(run_dir, read_manifest(run_dir).model_copy(update={"data": DataFacts.model_validate(data)}))
    other = shutil.copytree(run_dir, run_dir.with_name("other"))
    run = load_run(other)
    run.model.get_output_embeddings().weight.data.mul_(-1)
    run.model.save_pretrained(other / "model")
    with llama_cpp_server(file) as address:
        assert main(["certify", "--endpoint", address, str(run_dir), "--decode", "--json"]) == 0, capsys.readouterr()
        found = json.loads(capsys.readouterr().out)
        assert main(["certify", "--endpoint", address, str(other), "--decode"]) == 1
    checks = {check["name"]: check["verdict"] for check in found["checks"]}
    # Random weights have nearly equal logits, so a few greedy answers may differ.
    assert set(checks.values()) <= {"passed", "differs"} and found["passed"]
    assert {checks[name] for name in ("prompt ids", "sampling", "stop")} == {"passed"}
    assert "failed       greedy answers" in capsys.readouterr().out


@contextmanager
def llama_cpp_server(file: Path) -> Iterator[str]:
    """Start llama.cpp's own server on loopback in a separate process; yields its address."""
    options = (
        f"o.model.path = {str(file)!r}; o.n_parallel, o.warmup, o.use_jinja, o.port, o.n_ctx = 1, False, True, 0, 4096"
    )
    start = f"o = xllamacpp.CommonParams(); {options}; o.sampling.temp = 0; s = xllamacpp.Server(o)"
    script = f"import sys, xllamacpp; {start}; print('at', s.listening_address, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield next(line.split()[1] for line in process.stdout if line.startswith("at "))
        process.kill()


@pytest.mark.slow
@needs_converter
@needs_engine
def test_a_model_that_llama_cpp_computes_otherwise_is_seen(tiny_model: TinyModel, tmp_path: Path) -> None:
    # Its layers slide and see all in turn; llama.cpp has every sixth see all, as the real ones have.
    run_dir = make_run(tmp_path / "run", tiny_model("gemma3_text"))
    found = export_gguf(run_dir, tmp_path / "model.gguf", kind="f32", converter=CONVERTER, answers=True)
    assert found.prompts == 2 and found.equal is not None and found.equal < 2


@pytest.mark.slow
@needs_converter
def test_the_file_is_the_runs_model(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    run_dir = make_run(tmp_path / "run", tiny_model("mistral"), "mistral/full")
    target = tmp_path / "model.gguf"
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    assert export_gguf(run_dir, target, kind="q8_0", converter=CONVERTER).prompts is None
    run = load_prompts(run_dir)
    fields = gguf.GGUFReader(str(target)).fields
    assert fields["tokenizer.chat_template"].contents() == run.tokenizer.chat_template
    assert fields["tokenizer.ggml.eos_token_id"].contents() in run.manifest.stop_token_ids
    kinds, instruction = fields["tokenizer.ggml.token_type"].contents(), run.tokenizer.convert_tokens_to_ids("[INST]")
    assert kinds[instruction] == 3 and fields["tokenizer.ggml.add_space_prefix"].contents() is False
    assert len(set(fields["tokenizer.ggml.scores"].contents())) > 100
    # A file of another run is not taken for this one.
    other = load_prompts(make_run(tmp_path / "other", tiny_model("mistral")))
    with pytest.raises(UserError, match="another chat template than the run's"):
        check_file(target, other)
    another = load_prompts(make_run(tmp_path / "another", tiny_model("llama"), "mistral/full"))
    with pytest.raises(UserError, match="are not those of the run's tokenizer"):
        check_file(target, another)
    with pytest.raises(UserError, match=r"model.gguf exists; delete it or choose another name"):
        export_gguf(run_dir, target, converter=CONVERTER)


@pytest.mark.slow
@needs_converter
def test_a_tokenizer_that_the_converter_does_not_know(tiny_model: TinyModel, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("qwen3"))
    with pytest.raises(UserError, match=r"cannot convert this model: .*not recognized.*; a newer llama.cpp may"):
        export_gguf(run_dir, tmp_path / "out" / "model.gguf", converter=CONVERTER)
    assert list((tmp_path / "out").iterdir()) == []
