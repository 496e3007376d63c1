"""Ollama's Modelfile of a run. Ollama itself is not run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import make_run

from qdsft.deploy.gguf.modelfile import modelfile, pieces
from qdsft.inference.loaded_run import load_prompts

TinyModel = Callable[[str], Path]


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


def test_a_golden_dialogue_has_no_template(tiny_model: TinyModel, tmp_path: Path) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama")))
    run.manifest.golden_prompts[0].messages += [{"role": "assistant", "content": "a"}, USER]
    assert pieces(run, add_bos=True) is None
