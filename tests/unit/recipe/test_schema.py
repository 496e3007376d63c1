"""Keys and values of a recipe against the committed schema: what is wrong, and what to write instead."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from qdsft.recipe import Recipe
from qdsft.recipe.schema import describe, find_problem, recipe_schema, section_schema
from qdsft.recipe.sections import Data, Evaluation, Model, Prompt, Publish
from qdsft.recipe.upstream_keys import RENAMED, RESERVED, UPSTREAM

BASE: dict[str, Any] = {"model": {"name_or_path": "m"}, "data": {"train": "t.jsonl"}}
GOOD: dict[str, Any] = {
    "model": {"name_or_path": "m", "dtype": "bfloat16"},
    "quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "lora": {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"]},
    "data": {"train": "t.jsonl", "eval_fraction": 0, "max_samples": None},
    "prompt": {"system": "", "user": "{{ question }}"},
    "training": {"learning_rate": 2e-4, "num_train_epochs": 3, "packing": True, "report_to": ["tensorboard"]},
    "evaluation": {"max_new_tokens": 64, "samples": 5, "every_steps": None},
    "publish": {"hub_model_id": "me/mine"},
    "seed": 7,
    "preflight": False,
}


def with_value(key: str, value: Any) -> dict[str, Any]:
    section, _, name = key.partition(".")
    data = {name: dict(content) for name, content in BASE.items()}
    if not name:
        return {**data, section: value}
    data.setdefault(section, {})[name] = value
    return data


def problem(key: str, value: Any) -> str:
    found = find_problem(with_value(key, value))
    assert found is not None
    path, message = found
    assert ".".join(path) == key
    assert "\n" not in message
    return message


def test_a_good_recipe_has_no_problem() -> None:
    assert find_problem(BASE) is None
    assert find_problem(GOOD) is None


@pytest.mark.parametrize("section", ["quantization", "lora"])
def test_optional_sections_may_be_null(section: str) -> None:
    assert find_problem({**BASE, section: None}) is None


@pytest.mark.parametrize("section", ["model", "data", "prompt", "training", "evaluation", "publish"])
def test_other_sections_may_not(section: str) -> None:
    assert problem(section, None) == f"{section} must be a mapping, not null"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        # a key that is not there
        (
            "training.learning_rte",
            1,
            "training.learning_rte is not a key of trl.SFTConfig; did you mean learning_rate?",
        ),
        ("training.PACKING", True, "training.PACKING is not a key of trl.SFTConfig; did you mean packing?"),
        ("lora.lora_alfa", 1, "lora.lora_alfa is not a key of peft.LoraConfig; did you mean lora_alpha?"),
        ("data.trian", "x", "data.trian is not a key of this section; did you mean train?"),
        (
            "training.zzz",
            1,
            "training.zzz is not a key of trl.SFTConfig; recipes/recipe.schema.json lists them",
        ),
        # a key in the wrong place
        ("training.lora_alpha", 1, "training.lora_alpha is not a key of trl.SFTConfig; it belongs under lora:"),
        (
            "lora.num_train_epochs",
            1,
            "lora.num_train_epochs is not a key of peft.LoraConfig; it belongs under training:",
        ),
        ("data.learning_rate", 1, "data.learning_rate is not a key of this section; it belongs under training:"),
        ("learning_rate", 1e-4, "learning_rate is at the top level; it belongs under training:"),
        ("name_or_path", "x", "name_or_path is at the top level; it belongs under model:"),
        ("trainig", {}, "trainig is not a section of a recipe; did you mean training?"),
        ("zzz", {}, "zzz is not a section of a recipe; recipes/recipe.schema.json lists them"),
        # pydantic's own fields of a Recipe are no sections
        ("path", "x", "path is not a section of a recipe; recipes/recipe.schema.json lists them"),
        ("origins", {}, "origins is not a section of a recipe; recipes/recipe.schema.json lists them"),
        # renamed
        ("training.max_seq_length", 512, "training.max_seq_length is called max_length"),
        ("training.evaluation_strategy", "no", "training.evaluation_strategy is called eval_strategy"),
        ("training.gradient_checkpointing", True, "training.gradient_checkpointing is called activation_checkpointing"),
        (
            "training.warmup_ratio",
            0.1,
            "training.warmup_ratio is called warmup_steps (a value below 1 is a share of all steps)",
        ),
        ("lora.rank", 8, "lora.rank is called r"),
        ("model.torch_dtype", "auto", "model.torch_dtype is called dtype"),
        # reserved
        (
            "training.hub_token",
            "hf_x",
            "training.hub_token is not set in a recipe: it would be written into files that are uploaded; "
            "set the environment variable HF_TOKEN",
        ),
        (
            "training.bf16",
            True,
            "training.bf16 is not set in a recipe: precision follows model.dtype and the machine",
        ),
        (
            "training.gradient_accumulation_steps",
            4,
            "training.gradient_accumulation_steps is not set in a recipe: it is derived; "
            "set training.global_batch_size",
        ),
        ("lora.task_type", "X", "lora.task_type is not set in a recipe: it is always CAUSAL_LM"),
        # a value of another type
        (
            "training.learning_rate",
            "2e-4",
            'training.learning_rate must be a number, not the text "2e-4"; remove the quotes',
        ),
        ("training.learning_rate", "nan", 'training.learning_rate must be a number, not the text "nan"'),
        ("training.learning_rate", "fast", 'training.learning_rate must be a number, not the text "fast"'),
        ("training.learning_rate", "yes", 'training.learning_rate must be a number, not the text "yes"'),
        ("training.learning_rate", True, "training.learning_rate must be a number, not true"),
        ("training.learning_rate", None, "training.learning_rate must be a number, not null"),
        ("training.packing", "yes", 'training.packing must be true or false, not the text "yes"; write true'),
        ("training.packing", "Off", 'training.packing must be true or false, not the text "Off"; write false'),
        ("training.packing", 1, "training.packing must be true or false, not the number 1"),
        (
            "training.activation_checkpointing",
            "no",
            'training.activation_checkpointing must be one of auto, true, false, not the text "no"; write false',
        ),
        ("seed", 2.5, "seed must be a whole number of at least 0 and up to 4294967295, not the number 2.5"),
        (
            "seed",
            "7",
            'seed must be a whole number of at least 0 and up to 4294967295, not the text "7"; remove the quotes',
        ),
        ("evaluation.batch_size", True, "evaluation.batch_size must be a whole number of at least 1, not true"),
        (
            "data.train",
            12,
            "data.train must be text or a list of mappings with the keys path, weight, not the number 12",
        ),
        (
            "data.train",
            ["a", "b"],
            'data.train must be text or a list of mappings with the keys path, weight, not the list ["a", "b"]',
        ),
        ("prompt.user", {"question": None}, 'prompt.user must be text or null, not the mapping {"question": null}'),
        ("model", "m", 'model must be a mapping, not the text "m"'),
        ("lora", True, "lora must be a mapping or null, not true"),
        # 8.0 is no whole number for pydantic, nor for range()
        ("seed", 42.0, "seed must be a whole number of at least 0 and up to 4294967295, not the number 42.0"),
        (
            "evaluation.batch_size",
            8.0,
            "evaluation.batch_size must be a whole number of at least 1, not the number 8.0",
        ),
        (
            "training.max_steps",
            1e3,
            "training.max_steps must be a whole number of at least 1 or -1, not the number 1000.0",
        ),
        (
            "data.max_samples",
            1e2,
            "data.max_samples must be a whole number of at least 1 or null, not the number 100.0",
        ),
        # a value out of range
        ("seed", -1, "seed: -1 is less than the minimum of 0"),
        ("seed", 2**32, "seed: 4294967296 is greater than the maximum of 4294967295"),
        ("data.eval_fraction", 1, "data.eval_fraction: 1 is greater than or equal to the maximum of 1"),
        ("data.eval_fraction", -0.1, "data.eval_fraction: -0.1 is less than the minimum of 0"),
        (
            "data.max_samples",
            0,
            "data.max_samples must be a whole number of at least 1 or null, not the number 0",
        ),
        ("data.train", "", 'data.train must be text or a list of mappings with the keys path, weight, not the text ""'),
        (
            "training.per_device_train_batch_size",
            0,
            "training.per_device_train_batch_size: 0 is less than the minimum of 1",
        ),
        # a word that is not among the options
        (
            "model.dtype",
            "fp16",
            'model.dtype must be one of auto, bfloat16, float16, float32, not the text "fp16"',
        ),
        (
            "training.lr_scheduler_type",
            "cosin",
            'training.lr_scheduler_type cannot be the text "cosin"; did you mean cosine?',
        ),
    ],
)
def test_the_message_says_what_to_write(key: str, value: Any, message: str) -> None:
    assert problem(key, value) == message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        # words that upstream types as plain text
        (
            "model.attn_implementation",
            "flash_attn2",
            "must be one of auto, eager, sdpa, flex_attention, flash_attention_2",
        ),
        (
            "training.activation_checkpointing_kwargs",
            {"use_reentrent": True},
            "some of the keys use_reentrant, preserve",
        ),
        ("training.activation_checkpointing_kwargs", {"selective": True}, "must be a mapping with some of the keys"),
        ("training.log_level", "loud", "must be one of detail, debug, info"),
        ("training.log_level_replica", "quiet", "must be one of detail, debug, info"),
        ("training.debug", "what", 'must be one of "", underflow_overflow or a list, not the text "what"'),
        ("training.debug", ["tpu_metrics_debug"], "must be one of"),
        ("training.include_num_input_tokens_seen", "some", "must be one of all, non_padding, no, true, false"),
        ("training.train_sampling_strategy", "shuffled", "must be one of random, sequential"),
        ("training.dataloader_multiprocessing_context", "thread", "must be one of fork, spawn, forkserver or null"),
        ("training.report_to", "tensorbord", "must be one of"),
        ("training.report_to", ["wandb", "tensorbord"], "must be one of"),
        ("training.torch_compile_backend", "fast", "must be one of eager"),
        ("training.torch_compile_mode", "max", "must be one of default"),
        ("training.pad_to_multiple_of", "yes", "must be a whole number of at least 1 or auto or null"),
        ("training.loss_type", "foo", "must be one of nll, dft"),
        ("training.optim", "adam", 'cannot be the text "adam"; did you mean'),
        ("quantization.bnb_4bit_quant_type", "int4", "must be one of nf4, fp4"),
        ("quantization.llm_int8_skip_modules", [7], "must be a list or null"),
        ("lora.bias", "some", "must be one of none, all, lora_only"),
        ("lora.target_modules", [1], "must be text or a list or null"),
        ("lora.eva_config", {"roh": 2.0}, "must be a mapping with some of the keys rho, tau"),
        # initialisations of LoRA
        ("lora.init_lora_weights", "pissa_niter_", "or pissa_niter_N with a number N"),
        ("lora.init_lora_weights", "pissa_niter_[number of iters]", "write the number of iterations"),
        ("lora.init_lora_weights", "corda", "CorDA needs a pass over the data"),
        ("lora.init_lora_weights", "loftq", "the adapter would not fit the unmodified one"),
        ("lora.init_lora_weights", "lora_ga", "LoRA-GA needs gradients"),
        # values out of range
        ("training.adam_beta1", 2, "2 is greater than or equal to the maximum of 1"),
        ("training.adam_beta2", 1.0, "1.0 is greater than or equal to the maximum of 1"),
        ("training.adam_epsilon", -1, "-1 is less than the minimum of 0"),
        ("training.dataloader_num_workers", -1, "-1 is less than the minimum of 0"),
        ("training.dataloader_prefetch_factor", 0, "must be a whole number of at least 1 or null"),
        ("training.pad_to_multiple_of", 0, "must be a whole number of at least 1 or auto or null"),
        ("training.max_grad_norm", -0.5, "-0.5 is less than the minimum of 0"),
        ("training.weight_decay", -0.1, "-0.1 is less than the minimum of 0"),
        ("training.label_smoothing_factor", 5, "5 is greater than the maximum of 1"),
        ("training.save_total_limit", 0, "must be a whole number of at least 1 or null"),
        ("training.max_steps", 0, "must be a whole number of at least 1 or -1"),
        ("training.logging_steps", 0, "0 is less than or equal to the minimum of 0"),
        ("training.eval_steps", 0, "must be a number above 0 or null"),
        ("training.neftune_noise_alpha", -5, "must be a number above 0 or null"),
        ("quantization.llm_int8_threshold", -1, "-1 is less than the minimum of 0"),
        ("lora.lora_dropout", 1.0, "1.0 is greater than or equal to the maximum of 1"),
        ("lora.lora_dropout", -0.1, "-0.1 is less than the minimum of 0"),
        ("lora.lora_alpha", 0, "0 is less than the minimum of 1"),
        ("lora.rank_pattern", {"q_proj": 0}, "must be a mapping to a whole number of at least 1 or null"),
        ("lora.rank_pattern", {"q_proj": "8"}, "must be a mapping to a whole number of at least 1 or null"),
    ],
)
def test_a_value_that_upstream_ignores_or_refuses_late_is_refused(key: str, value: Any, message: str) -> None:
    assert message in problem(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lora.init_lora_weights", "pissa_niter_4"),
        ("lora.init_lora_weights", False),
        ("lora.eva_config", {"rho": 1.0}),
        ("lora.rank_pattern", {"q_proj": 4}),
        ("training.report_to", ["wandb", "tensorboard"]),
        ("training.report_to", None),
        ("training.debug", ["underflow_overflow"]),
        ("training.include_num_input_tokens_seen", True),
        ("training.pad_to_multiple_of", "auto"),
        ("training.torch_compile_backend", "aot_eager"),
        ("training.max_steps", -1),
        ("training.weight_decay", 0),
    ],
)
def test_a_value_that_upstream_reads_is_accepted(key: str, value: Any) -> None:
    assert find_problem(with_value(key, value)) is None


def test_a_long_value_is_shortened() -> None:
    message = problem("training.packing", "x" * 500)
    assert message == f'training.packing must be true or false, not the text "{"x" * 56}...'


def test_the_base_model_is_required() -> None:
    expected = (("model",), "model.name_or_path is missing; it names a Hub model or a local folder")
    assert find_problem({"data": {"train": "t"}}) == expected
    assert find_problem({"model": {"dtype": "auto"}, "data": {"train": "t"}}) == expected


def test_the_first_problem_in_the_file_is_named_first() -> None:
    found = find_problem({"training": {"packing": "yes"}, "model": {"nme": "x"}})
    assert found is not None
    assert found[0] == ("training", "packing")


@pytest.mark.parametrize("section", RENAMED)
def test_renamed_keys_have_only_their_new_name(section: str) -> None:
    known = section_schema(section)
    for old, new in RENAMED[section].items():
        assert old not in known, old
        name = new.split(" ")[0].split(":")[0]
        assert name in known, new


@pytest.mark.parametrize("section", RESERVED)
def test_reserved_keys_are_not_in_the_schema(section: str) -> None:
    assert not RESERVED[section].keys() & section_schema(section).keys()


@pytest.mark.parametrize("key", ["training.push_to_hub", "training.fsdp", "training.resume_from_checkpoint"])
def test_reserved_keys_name_their_remedy(key: str) -> None:
    section, name = key.split(".")
    assert problem(key, "x") == f"{key} is not set in a recipe: {RESERVED[section][name]}"


def test_the_sections_of_the_schema_are_those_of_a_recipe() -> None:
    fields = Recipe.model_fields.keys() - {"path", "origins"}
    assert recipe_schema()["properties"].keys() == fields
    assert fields >= UPSTREAM.keys()


@pytest.mark.parametrize("section", [Model, Data, Prompt, Evaluation, Publish])
def test_the_schema_of_an_own_section_is_that_of_its_class(section: type[Any]) -> None:
    known = section_schema(section.__name__.lower())
    assert known.keys() == section.model_fields.keys()
    for key, schema in known.items():
        field = section.model_fields[key]
        assert field.is_required() == ("default" not in schema), key
        assert field.is_required() or schema["default"] == field.default, key


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1}, "a whole number of at least 1"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "a number or null"),
        ({"anyOf": [{"type": "string"}, {"type": "string"}]}, "text"),
        ({"enum": ["a"]}, "a"),
        ({"enum": ["a", True, None]}, "one of a, true, null"),
        ({}, "something else"),
    ],
)
def test_describe(schema: dict[str, Any], words: str) -> None:
    assert describe(schema) == words


def test_a_recipe_is_checked_without_the_upstream_packages() -> None:
    code = (
        "import sys; from qdsft.recipe import load_recipe; load_recipe('recipes/llama2/qlora.yaml'); "
        "print(sorted({'torch', 'transformers', 'trl', 'peft', 'datasets', 'accelerate'} & set(sys.modules)))"
    )
    root = str(__file__).rsplit("tests", 1)[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")
