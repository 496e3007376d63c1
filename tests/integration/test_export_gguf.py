"""GGUF files: what is in them and what llama.cpp makes of them. Ollama itself is not run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import make_run

from qdsft.cli.main import main
from qdsft.deploy.gguf import llama_cpp
from qdsft.deploy.gguf.convert import check_file
from qdsft.deploy.gguf.export import export_gguf
from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_prompts, load_run

TinyModel = Callable[[str], Path]


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
