"""The recipes' chat templates, against strings written out in full.

What a model sees in training and what it is prompted with come from the same template; the loss on the
completion only is right when the prompt is a prefix of the row, as text and as token ids.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import jinja2
import pytest
from helpers.paths import ROOT
from transformers import AutoTokenizer

# template -> the tiny model of the family it is meant for; some bring their own template
FAMILIES = {
    "qwen3_8b": "qwen3_thinking",
    "ministral_8b": "ministral",
    "exaone4": "exaone4",
    "gemma3": "gemma3",
    "hyperclovax": "hyperclovax",
    "kanana": "kanana",
    "llama3_2": "llama3_2",
    "llama2": "llama",
    "llama3_korean": "llama3",
    "mistral": "mistral",
    "koalpaca": "gpt_neox",
    "gemma3_270m": "gemma3_text",
    "tiny": "llama",
    "qwen3": "qwen3",
}
RECIPES = [name for name in FAMILIES if (ROOT / "recipes" / name / "chat_template.jinja").is_file()]
EOS_PER_TURN = {"qwen3", "qwen3_8b", "llama3_korean", "llama3_2", "kanana", "exaone4"}
"""Templates that end every turn, not only an answer, in the end token. Llama 3.2 always writes a system turn."""

Messages = list[dict[str, str]]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("make_tiny_model", ROOT / "scripts" / "make_tiny_model.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    root = tmp_path_factory.mktemp("tiny")
    loaded = {}
    for architecture in sorted(set(FAMILIES.values())):
        script.build(architecture, root / architecture, layers=1)
        loaded[architecture] = AutoTokenizer.from_pretrained(root / architecture)
    return loaded


def template_of(name: str) -> str | None:
    if name not in RECIPES:
        return None
    return (ROOT / "recipes" / name / "chat_template.jinja").read_text(encoding="utf-8")


def render(tokenizers: dict[str, Any], name: str, messages: Messages, *, prompt: bool = False) -> str:
    text: str = tokenizers[FAMILIES[name]].apply_chat_template(
        messages, chat_template=template_of(name), tokenize=False, add_generation_prompt=prompt
    )
    return text


def talk(*contents: str, system: str | None = None) -> Messages:
    head = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return head + [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


EN_SYSTEM = "Break the question into sub-questions."
EN = ("Who founded Apple, and when?", "1. Who founded Apple?\n2. When was Apple founded?")
KO_SYSTEM = "질문을 하위 질문으로 나누세요."
KO = ("애플은 누가 언제 세웠나요?", "1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?")

# template, system, exchange, the prompt, what the full row adds to it
GOLDEN = [
    (
        "llama2",
        EN_SYSTEM,
        EN,
        "<s>[INST] <<SYS>>\nBreak the question into sub-questions.\n<</SYS>>\n\nWho founded Apple, and when? [/INST]",
        " 1. Who founded Apple?\n2. When was Apple founded? </s>",
    ),
    (
        "llama2",
        None,
        EN,
        "<s>[INST] Who founded Apple, and when? [/INST]",
        " 1. Who founded Apple?\n2. When was Apple founded? </s>",
    ),
    (
        "llama2",
        KO_SYSTEM,
        KO,
        "<s>[INST] <<SYS>>\n질문을 하위 질문으로 나누세요.\n<</SYS>>\n\n애플은 누가 언제 세웠나요? [/INST]",
        " 1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요? </s>",
    ),
    (
        "mistral",
        EN_SYSTEM,
        EN,
        "<s>[INST] Break the question into sub-questions.\n\nWho founded Apple, and when?[/INST]",
        " 1. Who founded Apple?\n2. When was Apple founded?</s>",
    ),
    (
        "mistral",
        None,
        EN,
        "<s>[INST] Who founded Apple, and when?[/INST]",
        " 1. Who founded Apple?\n2. When was Apple founded?</s>",
    ),
    (
        "mistral",
        KO_SYSTEM,
        KO,
        "<s>[INST] 질문을 하위 질문으로 나누세요.\n\n애플은 누가 언제 세웠나요?[/INST]",
        " 1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?</s>",
    ),
    (
        "koalpaca",
        KO_SYSTEM,
        KO,
        "질문을 하위 질문으로 나누세요.\n\n### 질문: 애플은 누가 언제 세웠나요?\n\n### 답변:",
        " 1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?<|endoftext|>",
    ),
    (
        "koalpaca",
        None,
        KO,
        "### 질문: 애플은 누가 언제 세웠나요?\n\n### 답변:",
        " 1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?<|endoftext|>",
    ),
    (
        "koalpaca",
        EN_SYSTEM,
        EN,
        "Break the question into sub-questions.\n\n### 질문: Who founded Apple, and when?\n\n### 답변:",
        " 1. Who founded Apple?\n2. When was Apple founded?<|endoftext|>",
    ),
    (
        "gemma3_270m",
        EN_SYSTEM,
        EN,
        "<bos>Break the question into sub-questions.\n\nQuestion: Who founded Apple, and when?\nSub-questions:\n",
        "1. Who founded Apple?\n2. When was Apple founded?<eos>",
    ),
    (
        "gemma3_270m",
        None,
        EN,
        "<bos>Question: Who founded Apple, and when?\nSub-questions:\n",
        "1. Who founded Apple?\n2. When was Apple founded?<eos>",
    ),
    (
        "gemma3_270m",
        KO_SYSTEM,
        KO,
        "<bos>질문을 하위 질문으로 나누세요.\n\nQuestion: 애플은 누가 언제 세웠나요?\nSub-questions:\n",
        "1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?<eos>",
    ),
    (
        "llama3_korean",
        KO_SYSTEM,
        KO,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n질문을 하위 질문으로 나누세요.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n애플은 누가 언제 세웠나요?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?<|eot_id|>",
    ),
    (
        "llama3_korean",
        None,
        EN,
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWho founded Apple, and when?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "1. Who founded Apple?\n2. When was Apple founded?<|eot_id|>",
    ),
    (
        "tiny",
        EN_SYSTEM,
        EN,
        "<s>Break the question into sub-questions.\n\nQuestion: Who founded Apple, and when?\nSub-questions:\n",
        "1. Who founded Apple?\n2. When was Apple founded?</s>",
    ),
    (
        "tiny",
        None,
        KO,
        "<s>Question: 애플은 누가 언제 세웠나요?\nSub-questions:\n",
        "1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?</s>",
    ),
    (
        "qwen3",
        EN_SYSTEM,
        EN,
        "<|im_start|>system\nBreak the question into sub-questions.<|im_end|>\n"
        "<|im_start|>user\nWho founded Apple, and when?<|im_end|>\n<|im_start|>assistant\n",
        "1. Who founded Apple?\n2. When was Apple founded?<|im_end|>\n",
    ),
    (
        "qwen3",
        None,
        KO,
        "<|im_start|>user\n애플은 누가 언제 세웠나요?<|im_end|>\n<|im_start|>assistant\n",
        "1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?<|im_end|>\n",
    ),
    # An empty thinking block belongs to the prompt, so inference asks as training did and it carries no loss.
    (
        "qwen3_8b",
        EN_SYSTEM,
        EN,
        "<|im_start|>system\nBreak the question into sub-questions.<|im_end|>\n"
        "<|im_start|>user\nWho founded Apple, and when?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "1. Who founded Apple?\n2. When was Apple founded?<|im_end|>\n",
    ),
    (
        "exaone4",
        KO_SYSTEM,
        KO,
        "[|system|]\n질문을 하위 질문으로 나누세요.[|endofturn|]\n[|user|]\n애플은 누가 언제 세웠나요?[|endofturn|]\n"
        "[|assistant|]\n<think>\n\n</think>\n\n",
        "1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?[|endofturn|]\n",
    ),
    (
        "ministral_8b",
        EN_SYSTEM,
        EN,
        "<s>[INST]Break the question into sub-questions.\n\nWho founded Apple, and when?[/INST]",
        "1. Who founded Apple?\n2. When was Apple founded?</s>",
    ),
    (
        "ministral_8b",
        None,
        KO,
        "<s>[INST]애플은 누가 언제 세웠나요?[/INST]",
        "1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?</s>",
    ),
    (
        "gemma3",
        EN_SYSTEM,
        EN,
        "<bos><start_of_turn>user\nBreak the question into sub-questions.\n\n"
        "Who founded Apple, and when?<end_of_turn>\n<start_of_turn>model\n",
        "1. Who founded Apple?\n2. When was Apple founded?<end_of_turn>\n",
    ),
    (
        "hyperclovax",
        None,
        KO,
        "<|im_start|>tool_list\n<|im_end|>\n<|im_start|>user\n애플은 누가 언제 세웠나요?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "1. 애플은 누가 세웠나요?\n2. 애플은 언제 세워졌나요?<|im_end|><|endofturn|>\n",
    ),
]


def test_qwen3_s_own_template_trains_the_thinking_block_and_ours_writes_what_it_does_without(
    tokenizers: dict[str, Any],
) -> None:
    tokenizer = tokenizers["qwen3_thinking"]
    own = {"tokenize": False, "add_generation_prompt": True}
    question = talk(EN[0], system=EN_SYSTEM)
    asks = tokenizer.apply_chat_template(question, **own)
    row = tokenizer.apply_chat_template(talk(*EN, system=EN_SYSTEM), tokenize=False)
    assert row.removeprefix(asks).startswith("<think>")
    assert render(tokenizers, "qwen3_8b", question, prompt=True) == tokenizer.apply_chat_template(
        question, enable_thinking=False, **own
    )
    assert render(tokenizers, "qwen3_8b", talk(*EN, system=EN_SYSTEM)) == row


@pytest.mark.parametrize(("name", "system", "exchange", "prompt", "answer"), GOLDEN)
def test_prompt_and_row_are_these_strings(
    tokenizers: dict[str, Any],
    name: str,
    system: str | None,
    exchange: tuple[str, str],
    prompt: str,
    answer: str,
) -> None:
    assert render(tokenizers, name, talk(exchange[0], system=system), prompt=True) == prompt
    assert render(tokenizers, name, talk(*exchange, system=system)) == prompt + answer


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "llama2",
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nOne? [/INST] 하나. </s><s>[INST] 둘? [/INST] Two. </s>"
            "<s>[INST] Three? [/INST]",
        ),
        (
            "mistral",
            "<s>[INST] Be brief.\n\nOne?[/INST] 하나.</s>[INST] 둘?[/INST] Two.</s>[INST] Three?[/INST]",
        ),
        (
            "ministral_8b",
            "<s>[INST]Be brief.\n\nOne?[/INST]하나.</s>[INST]둘?[/INST]Two.</s>[INST]Three?[/INST]",
        ),
        (
            "qwen3_8b",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n"
            "<|im_start|>assistant\n하나.<|im_end|>\n<|im_start|>user\n둘?<|im_end|>\n"
            "<|im_start|>assistant\nTwo.<|im_end|>\n<|im_start|>user\nThree?<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            "koalpaca",
            "Be brief.\n\n### 질문: One?\n\n### 답변: 하나.<|endoftext|>"
            "\n\n### 질문: 둘?\n\n### 답변: Two.<|endoftext|>"
            "\n\n### 질문: Three?\n\n### 답변:",
        ),
        (
            "llama3_korean",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nOne?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n하나.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n둘?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nTwo.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nThree?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "gemma3_270m",
            "<bos>Be brief.\n\nQuestion: One?\nSub-questions:\n하나.<eos>"
            "\n\nQuestion: 둘?\nSub-questions:\nTwo.<eos>"
            "\n\nQuestion: Three?\nSub-questions:\n",
        ),
    ],
)
def test_several_turns(tokenizers: dict[str, Any], name: str, expected: str) -> None:
    messages = talk("One?", "하나.", "둘?", "Two.", "Three?", system="Be brief.")
    assert render(tokenizers, name, messages, prompt=True) == expected


def test_white_space_is_stripped_only_where_the_family_does(tokenizers: dict[str, Any]) -> None:
    messages = talk(" One? \n", "\n 1. Two? ")
    assert render(tokenizers, "llama2", messages) == "<s>[INST] One? [/INST] 1. Two? </s>"
    assert render(tokenizers, "mistral", messages) == "<s>[INST]  One? \n[/INST] 1. Two?</s>"
    assert render(tokenizers, "koalpaca", messages) == "### 질문:  One? \n\n\n### 답변: \n 1. Two? <|endoftext|>"
    assert render(tokenizers, "gemma3_270m", messages) == "<bos>Question: One?\nSub-questions:\n1. Two?<eos>"
    assert render(tokenizers, "llama3_korean", messages).endswith(
        "user<|end_header_id|>\n\nOne?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n1. Two?<|eot_id|>"
    )
    assert render(tokenizers, "tiny", messages) == "<s>Question: One?\nSub-questions:\n1. Two?</s>"


@pytest.mark.parametrize("name", RECIPES)
def test_an_empty_system_text_is_none(tokenizers: dict[str, Any], name: str) -> None:
    assert render(tokenizers, name, talk(*EN, system="")) == render(tokenizers, name, talk(*EN))


def test_tiny_writes_bos_only_where_the_tokenizer_has_one(tokenizers: dict[str, Any]) -> None:
    text = tokenizers["gpt_neox"].apply_chat_template(
        talk("Q?", "1. A?"), chat_template=template_of("tiny"), tokenize=False
    )
    assert text == "Question: Q?\nSub-questions:\n1. A?<|endoftext|>"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("exchange", [EN, KO, ("한 줄?\n두 줄?", "- a\n- 나"), ("?", "😀"), ("(", "가")])
@pytest.mark.parametrize("system", [None, EN_SYSTEM, KO_SYSTEM])
def test_prompt_ids_are_a_prefix_of_the_row_s_ids(
    tokenizers: dict[str, Any], name: str, exchange: tuple[str, str], system: str | None
) -> None:
    tokenizer = tokenizers[FAMILIES[name]]
    options: dict[str, Any] = {"chat_template": template_of(name), "return_dict": True}
    prompt = tokenizer.apply_chat_template(talk(exchange[0], system=system), add_generation_prompt=True, **options)[
        "input_ids"
    ]
    row = tokenizer.apply_chat_template(talk(*exchange, system=system), **options)["input_ids"]
    assert len(prompt) < len(row) and row[: len(prompt)] == prompt
    text = render(tokenizers, name, talk(*exchange, system=system))
    assert row == tokenizer(text, add_special_tokens=False)["input_ids"]
    # One BOS and no more: a tokenizer that adds its own would double the template's. EXAONE's template writes none.
    if tokenizer.bos_token_id is not None and name != "exaone4":
        assert row.count(tokenizer.bos_token_id) == 1 and row[0] == tokenizer.bos_token_id
    turns = 3 if system is not None or name == "llama3_2" else 2
    expected = 0 if name == "gemma3" else turns if name in EOS_PER_TURN else 1  # Gemma ends turns in <end_of_turn>
    assert row.count(tokenizer.eos_token_id) == expected


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}], "unknown role 'tool'"),
        (
            [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}],
            "must come first, and only once",
        ),
        (talk("a", system="b")[:1] * 2 + talk("a"), "must come first, and only once"),
        ([{"role": "assistant", "content": "a"}], "must alternate, user first"),
        ([{"role": "user", "content": "a"}] * 2, "must alternate, user first"),
        ([{"role": "system", "content": "a"}], "there is no user message"),
    ],
)
def test_misplaced_messages_are_refused_in_one_line(
    tokenizers: dict[str, Any], name: str, messages: Messages, said: str
) -> None:
    with pytest.raises(jinja2.TemplateError) as caught:
        render(tokenizers, name, messages)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{name} chat template: ")
