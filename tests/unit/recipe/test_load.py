"""Loading a recipe: file and lines, overrides, contradictions, shipped recipes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.refusals import refusal

from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.load import find_recipe, read_text

BASE = "model:\n  name_or_path: m\ndata:\n  train: t.jsonl\n"


FULL = BASE + "training:\n  learning_rate: 2e-4\n  per_device_train_batch_size: 2\n  global_batch_size: 16\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def recipe_of(text: str | bytes, *overrides: str) -> Recipe:
    Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return load_recipe("r.yaml", overrides)


def test_the_byte_order_mark_and_crlf_of_windows_are_read() -> None:
    plain = recipe_of(FULL)
    windows = recipe_of(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert windows == plain
    assert windows.origin("training.learning_rate") == "r.yaml:6"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml: not a recipe; write a YAML mapping with the sections model, data, training, ..."),
        ("- model\n", "r.yaml: not a recipe; write a YAML mapping with the sections model, data, training, ..."),
        (
            "data:\n  train: t\nmodel:\n  dtype: auto\n",
            "r.yaml:3: model.name_or_path is missing; it names a Hub model or a local folder",
        ),
        ("seed: 1\n", "r.yaml: model.name_or_path is missing; it names a Hub model or a local folder"),
        (
            "model: {name_or_path: m}\n",
            "r.yaml: data.train is missing; give a data file or a Hub dataset with data.train=FILE",
        ),
        (BASE + "training:\n  packing: yes\n", 'must be true or false, not the text "yes"; write true'),
        (BASE + "training:\n  learning_rate: '2e-4'\n", 'must be a number, not the text "2e-4"; remove the quotes'),
        (BASE + "training:\n  max_steps: 2.5\n", "must be a whole number of at least 1 or -1, not the number 2.5"),
        (BASE + "training:\n  max_seq_length: 2\n", "r.yaml:6: training.max_seq_length is called max_length"),
        (BASE + "training:\n  lora_alpha: 2\n", "r.yaml:6: training.lora_alpha is not a key of trl.SFTConfig; it bel"),
        (
            BASE + "trainig:\n  packing: true\n",
            "r.yaml:5: trainig is not a section of a recipe; did you mean training?",
        ),
        (BASE + "training:\n", "r.yaml:5: training must be a mapping, not null"),
        (
            BASE + "training:\n  packing: true\n  max_length: null\n",
            "r.yaml:7: packing needs training.max_length, the tokens to fill",
        ),
        (
            BASE + "quantization:\n  load_in_4bit: true\n",
            "r.yaml:5: quantized weights cannot be trained themselves; add a lora section, or remove quantization",
        ),
        (
            BASE + "lora: {}\nquantization:\n  load_in_4bit: true\n  load_in_8bit: true\n",
            "r.yaml:6: set exactly one of quantization.load_in_4bit and load_in_8bit to true",
        ),
        (
            BASE + "lora: {}\nquantization:\n  bnb_4bit_quant_type: nf4\n",
            "r.yaml:6: set exactly one of quantization.load_in_4bit and load_in_8bit to true",
        ),
        (BASE + "training:\n  learning_rate: 0\n", "r.yaml:6: training.learning_rate must be above 0, not 0"),
        (BASE + "training:\n  learning_rate: -1e-4\n", "r.yaml:6: training.learning_rate must be above 0, not -0.0001"),
        (BASE + "training:\n  num_train_epochs: 0\n", "r.yaml:6: training.num_train_epochs must be above 0, not 0"),
        (
            BASE + "lora:\n  target_modules: '['\n",
            "r.yaml:6: lora.target_modules is not a regular expression: unterminated character set at position 0; "
            "correct it",
        ),
    ],
)
def test_a_fault_is_named_with_file_and_line(text: str, message: str) -> None:
    found = refusal(lambda: recipe_of(text))
    assert found.startswith("r.yaml")
    assert message in found


@pytest.mark.parametrize(
    "targets",
    ["[q_proj, lm_head]", "lm_head", "q_proj|lm_head", ".*(q_proj|lm_head)", ".*head", "'.*'"],
)
def test_an_adapter_on_lm_head_is_refused(targets: str) -> None:
    assert refusal(lambda: recipe_of(BASE + f"lora:\n  target_modules: {targets}\n")) == (
        "r.yaml:6: an adapter on lm_head is never trained by TRL's fused loss; remove it from lora.target_modules"
    )


@pytest.mark.parametrize("targets", ["[q_proj, v_proj]", "all-linear", ".*(q|v)_proj", "null", "[]"])
def test_an_adapter_elsewhere_is_not(targets: str) -> None:
    recipe_of(BASE + f"lora:\n  target_modules: {targets}\n")


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_quantization_with_lora(bits: str) -> None:
    recipe = recipe_of(BASE + f"lora:\n  r: 8\nquantization:\n  load_in_{bits}: true\n")
    assert recipe.quantization == {f"load_in_{bits}": True}


def test_the_file_itself() -> None:
    assert refusal(lambda: load_recipe("nope.yaml")) == (
        "nope.yaml: No such file or directory; give the path of a readable file"
    )
    assert refusal(lambda: load_recipe(".")) == ".: Is a directory; give the path of a readable file"
    assert refusal(lambda: recipe_of(BASE.encode() + b"# \xff\n")) == (
        f"r.yaml: not UTF-8 at byte {len(BASE) + 2}; save the file as UTF-8"
    )
    assert refusal(lambda: load_recipe("r.yaml/x")) == "r.yaml/x: Not a directory; give the path of a readable file"
    assert "null byte" in refusal(lambda: read_text(Path("r\0.yaml")))


def test_an_override_may_replace_a_whole_section() -> None:
    recipe = recipe_of(FULL, "training={max_steps: 3, packing: true}")
    assert recipe.training == {"max_steps": 3, "packing": True}
    assert recipe.origin("training.max_steps") == "command line"
    assert "training.learning_rate" not in recipe.origins
    assert refusal(lambda: recipe_of(FULL, "training={learning_rate: 0}")) == (
        "command line: training.learning_rate must be above 0, not 0"
    )


def test_an_override_may_remove_a_section() -> None:
    text = BASE + "lora:\n  r: 8\nquantization:\n  load_in_4bit: true\n"
    recipe = recipe_of(text, "quantization=null")
    assert recipe.quantization is None
    assert ("quantization", None, "command line") in recipe.rows()
    assert not [key for key in recipe.origins if key.startswith("quantization.")]
    # without the adapter, the contradiction is found with what is left
    assert refusal(lambda: recipe_of(text, "lora=null")).startswith("r.yaml:7: quantized weights cannot be trained")


def test_a_later_override_wins_and_a_nested_one_merges() -> None:
    recipe = recipe_of(
        BASE + "training:\n  lr_scheduler_type: polynomial\n  lr_scheduler_kwargs: {lr_end: 1, power: 2}\n",
        "training.lr_scheduler_kwargs.lr_end=3",
        "training.max_steps=1",
        "training.max_steps=2",
    )
    assert recipe.training["lr_scheduler_kwargs"] == {"lr_end": 3, "power": 2}
    assert recipe.training["max_steps"] == 2
    assert recipe.origin("training.lr_scheduler_kwargs.lr_end") == "command line"
    assert recipe.origin("training.lr_scheduler_kwargs") == "command line"


def test_an_override_may_fill_a_section_that_is_null_or_missing() -> None:
    recipe = recipe_of(BASE + "lora:\n", "lora.r=4", "publish.hub_model_id=me/mine")
    assert recipe.lora == {"r": 4}
    assert recipe.publish.hub_model_id == "me/mine"


def test_text_needs_no_quotes_on_the_command_line() -> None:
    recipe = recipe_of(BASE, "prompt.user=Sum up: {{ text }}", "prompt.completion={{ summary }}", "data.train=12")
    assert recipe.prompt.user == "Sum up: {{ text }}"
    assert recipe.prompt.completion == "{{ summary }}"
    assert recipe.data.train == "12"
    assert recipe_of(BASE, "prompt.system='quoted'").prompt.system == "quoted"
    assert recipe_of(BASE + "prompt: {system: x}\n", "prompt.system=null").prompt.system is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("packing", "command line: 'packing' is not an override; write section.key=value"),
        ("=1", "command line: '=1' is not an override; write section.key=value"),
        ("training.=1", "command line: 'training.=1' is not an override; write section.key=value"),
        (".x=1", "command line: '.x=1' is not an override; write section.key=value"),
        (
            "model.name_or_path.x=1",
            "command line: model.name_or_path.x reaches into name_or_path, which is a value, not a section",
        ),
        ("seed.x=1", "command line: seed.x reaches into seed, which is a value, not a section"),
        (
            "training.learning_rte=1",
            "command line: training.learning_rte is not a key of trl.SFTConfig; did you mean learning_rate?",
        ),
        ("trainig.packing=true", "command line: trainig is not a section of a recipe; did you mean training?"),
        (
            "training.packing=yes",
            'command line: training.packing must be true or false, not the text "yes"; write true',
        ),
        ("training.max_steps=[", "command line: training.max_steps:1: not valid YAML: expected the node content, but "),
        ("training.kwargs={a: 1, a: 2}", "command line: training.kwargs:1: a is given twice (first on line 1)"),
        ("data.train=\udcff.json", r"command line: 'data.train=\udcff.json' is not UTF-8 text; check the terminal's"),
        ("\udcff=1", r"command line: '\udcff=1' is not UTF-8 text; check the terminal's encoding"),
    ],
)
def test_an_override_that_is_wrong(override: str, message: str) -> None:
    found = refusal(lambda: recipe_of(BASE + "seed: 1\n", override))
    assert found.startswith(message)
    found.encode("utf-8")  # can be printed


def test_random_overrides_are_applied_or_refused() -> None:
    chance = random.Random(11)
    names = [
        *("training.packing", "training.learning_rate", "training.max_length", "lora.r", "lora.target_modules"),
        *("model.name_or_path", "data.train", "data.eval_fraction", "prompt.user", "quantization.load_in_4bit", "seed"),
        *("training", "lora", "quantization", "prompt", "zzz", "training.zzz", "training.zzz.x", "seed.x", ".", ""),
    ]
    values = ["", "null", "true", "yes", "1", "2.0", "1e-4", "[", "[a]", "{a: 1}", "{", "'", '"\\ud800"', ".nan", "-1"]
    Path("r.yaml").write_text(FULL, encoding="utf-8")
    applied = 0
    for _ in range(200):
        overrides = [f"{chance.choice(names)}={chance.choice(values)}" for _ in range(chance.randint(1, 2))]
        try:
            load_recipe("r.yaml", overrides)
            applied += 1
        except UserError as error:
            assert "\n" not in str(error)
        except Exception as error:
            raise AssertionError(f"{error!r} for {overrides!r}") from error
    assert 20 <= applied <= 150


@pytest.mark.parametrize(
    "name", ["mistral/lora", "mistral/lora.yaml", "recipes/mistral/lora", "recipes/mistral/lora.yaml"]
)
def test_a_shipped_recipe_is_found_by_its_name(name: str) -> None:
    recipe = load_recipe(name, ["training.learning_rate=1e-5"])
    assert recipe.path == ROOT / "recipes" / "mistral" / "lora.yaml" and recipe.name == "mistral-lora"
    assert recipe.chat_template_path() == ROOT / "recipes" / "mistral" / "chat_template.jinja"


def test_a_file_of_that_name_goes_first_and_a_folder_is_none() -> None:
    Path("mistral/lora").mkdir(parents=True)
    assert find_recipe("mistral/lora") == ROOT / "recipes" / "mistral" / "lora.yaml"
    Path("mistral/lora.yaml").write_text(BASE, encoding="utf-8")
    assert load_recipe("mistral/lora.yaml").model.name_or_path == "m"


@pytest.mark.parametrize(
    "name", ["mistral", "mistral/nope", "../recipes/mistral/lora", "x/mistral/lora", "mistral/../lora"]
)
def test_any_other_name_is_that_of_a_file_that_is_missing(name: str) -> None:
    assert refusal(lambda: load_recipe(name)).startswith(f"{name}: No such file or directory; ")


MAPPING: dict[str, Any] = {
    "model": {"name_or_path": "models/tiny"},
    "data": {"train": Path("rows.jsonl")},
    "training": {"learning_rate": 1e-3},
}


def test_a_mapping_is_a_recipe() -> None:
    recipe = load_recipe(MAPPING, ["training.max_steps=3"])
    assert (recipe.data.train, recipe.training) == ("rows.jsonl", {"learning_rate": 1e-3, "max_steps": 3})
    assert recipe.origin("training.learning_rate") == "Python" and recipe.origin("training.max_steps") == "command line"
    assert recipe.run_dir.name == f"{Path.cwd().name}-recipe"
    assert recipe.resume_command() == "qdsft.train(recipe, resume=True)"
    assert "max_steps" not in MAPPING["training"]  # the mapping of the caller is not changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"training": {"learning_rte": 1}},
            "Python: training.learning_rte is not a key of trl.SFTConfig; did",
        ),
        ({"lora_r": 8}, "Python: lora_r is not a section of a recipe; write lora.r"),
        ({"training": {"learning_rate": "fast"}}, "Python: training.learning_rate must be a number"),
        ({"training": {"learning_rate": float("nan")}}, "Python: a recipe holds text, numbers, lists and mappings"),
        ({"training": {"optim": object()}}, "Python: a recipe holds text, numbers, lists and mappings"),
        ({"data": {}}, "recipe: data.train is missing"),
        ({"model": None}, "Python: model must be"),
    ],
)
def test_a_mapping_is_checked_as_a_file_is(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe({**MAPPING, **change})
    assert str(error.value).startswith(message)


def test_a_loaded_recipe_is_a_source_too() -> None:
    recipe = load_recipe("tiny/full", ["seed=3"])
    assert load_recipe(recipe) is recipe
    changed = load_recipe(recipe, ["training.max_steps=4"])
    assert changed.training == {**recipe.training, "max_steps": 4} and changed.seed == 3
    assert changed.origin("training.learning_rate") == recipe.origin("training.learning_rate")
