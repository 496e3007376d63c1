"""The spine end to end on tiny models: learn, stop, save, resume, refuse."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT
from safetensors.torch import load_file

from qdsft.cli.main import main
from qdsft.data.split import stream_split
from qdsft.errors import UserError
from qdsft.inference.decomposer import Decomposer
from qdsft.inference.evaluate import evaluate
from qdsft.recipe import Recipe, load_recipe
from qdsft.runs.eval_rows import write_eval_rows
from qdsft.runs.manifest import check_resume, read_manifest, write_manifest
from qdsft.training.train import train
from qdsft.training.trainer import RecipeTrainer

pytestmark = pytest.mark.slow

ROWS = [
    {"question": "Who is older, Ada or Bo?", "sub_questions": ["How old is Ada?", "How old is Bo?", "Is #1 above #2?"]},
    {
        "question": "서울과 부산 중 어디가 더 큰가요?",
        "sub_questions": ["서울의 면적은?", "부산의 면적은?", "#1과 #2 중 큰 것은?"],
    },
    {
        "question": "Is the capital of Peru by the sea?",
        "sub_questions": ["What is the capital of Peru?", "Is #1 by the sea?"],
    },
    {"question": "How many legs have two cats?", "sub_questions": ["How many legs has a cat?", "What is #1 times 2?"]},
]


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Recipe]:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")

    def make(name: str = "tiny/full", architecture: str = "llama", *overrides: str, run: str = "run") -> Recipe:
        places = [
            f"model.name_or_path={tiny_model(architecture)}",
            f"data.train={data}",
            "data.eval=null",
            "data.eval_fraction=0",
            f"training.output_dir={tmp_path / run}",
            "training.report_to=none",
        ]
        return load_recipe(ROOT / "recipes" / f"{name}.yaml", [*places, *overrides])

    return make


MEMORISE = ("training.num_train_epochs=150", "training.learning_rate=5e-3", "training.save_strategy=no")


def test_a_model_learns_its_rows_stops_by_itself_and_answers_through_every_door(
    make_recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Fails if the mask, the template, the stop token or the way back from disk is wrong.
    recipe = make_recipe("tiny/full", "llama", *MEMORISE)
    run_dir = train(recipe)
    decompose = Decomposer(run_dir)
    for row in ROWS:
        assert decompose(str(row["question"])).steps == tuple(row["sub_questions"])

    manifest = read_manifest(run_dir)  # score the rows it was trained on: that they are known is the point here
    write_eval_rows(run_dir, [example for _, example in stream_split(recipe)])
    manifest.data.eval_rows = len(ROWS)
    write_manifest(run_dir, manifest)
    results = evaluate(run_dir, baseline=True)
    tuned, base = results["tuned"].to_json(), results["baseline"].to_json()
    assert (tuned["exact_match"], tuned["valid"], tuned["stopped"], tuned["samples"]) == (1.0, 1.0, 1.0, 4)
    assert base["exact_match"] == 0.0 and tuned["loss"] < 0.1 < base["loss"]
    assert json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))["tuned"] == tuned
    predictions = [json.loads(line) for line in (run_dir / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert [row["sub_questions"] for row in predictions] == [row["sub_questions"] for row in ROWS]
    report = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "서울의 면적은?" in report and "<h2>Training</h2>" in report and "loss over the steps" in report
    card = (run_dir / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in card and "| exact match | 1.000 | 0.000 |" in card

    capsys.readouterr()
    assert main(["decompose", str(run_dir), "--json", str(ROWS[1]["question"])]) == 0
    assert json.loads(capsys.readouterr().out) == {**ROWS[1], "valid": True}
    assert main(["decompose", str(run_dir), "a </s> b"]) == 1
    assert "special token" in capsys.readouterr().err


def test_questions_are_read_line_by_line_and_a_bad_one_is_not_the_end(
    make_recipe: Callable[..., Recipe], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = train(make_recipe("tiny/full", "llama", "training.max_steps=1", "evaluation.max_new_tokens=4"))
    monkeypatch.setattr("sys.stdin", io.StringIO("first?\n\nbad </s>\nsecond?\n"))
    capsys.readouterr()
    assert main(["decompose", str(run_dir), "--json"]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["question"] for line in captured.out.splitlines()] == ["first?", "second?"]
    assert "error: line 3: the text 'bad </s>'" in captured.err


def test_the_template_and_the_tokenizer_of_a_run_are_guarded(
    make_recipe: Callable[..., Recipe], tiny_model: Callable[[str], Path]
) -> None:
    run_dir = train(make_recipe("mistral/lora", "mistral", "training.max_steps=2"))
    template, tokenizer = run_dir / "adapter/chat_template.jinja", run_dir / "adapter/tokenizer.json"
    originals = template.read_text(encoding="utf-8"), tokenizer.read_text(encoding="utf-8")
    Decomposer(run_dir)

    template.write_text(originals[0].replace("[/INST]", "[/INST] "), encoding="utf-8")
    with pytest.raises(UserError, match="not the template that this run was trained with"):
        Decomposer(run_dir)
    template.write_text(originals[0], encoding="utf-8")

    tokenizer.write_text((tiny_model("llama") / "tokenizer.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserError, match="no longer yields the token ids"):
        Decomposer(run_dir)
    tokenizer.write_text(originals[1], encoding="utf-8")

    manifest = read_manifest(run_dir)
    manifest.base_model.config_sha256 = "0" * 64
    write_manifest(run_dir, manifest)
    with pytest.raises(UserError, match="is not the one that the adapter was trained on"):
        Decomposer(run_dir)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in between may catch it."""


def _interrupted(recipe: Recipe, at_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step = RecipeTrainer.training_step

    def dying(self: RecipeTrainer, *arguments: object, **options: object) -> object:
        if self.state.global_step >= at_step:
            raise Killed
        return step(self, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RecipeTrainer, "training_step", dying)
        train(recipe)


@pytest.mark.parametrize("name", ["mistral/lora", "mistral/qlora_8gb", "tiny/full"])
def test_interrupted_and_resumed_equals_uninterrupted(
    name: str, make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = "llama" if name == "tiny/full" else "mistral"
    steps = ("training.max_steps=6", "training.save_strategy=steps", "training.save_steps=2", "training.packing=false")
    size = ("training.global_batch_size=1", "training.per_device_train_batch_size=1")
    whole = train(make_recipe(name, architecture, *steps, *size, run="whole"))
    recipe = make_recipe(name, architecture, *steps, *size, run="cut")
    _interrupted(recipe, 5, monkeypatch)
    assert read_manifest(recipe.run_dir).state == "running"
    with pytest.raises(UserError, match=r"holds an unfinished run; add --resume"):
        train(recipe)
    with pytest.raises(UserError, match=r"has not finished; resume it with: qdsft train .* --resume"):
        Decomposer(recipe.run_dir)
    (recipe.run_dir / ".saving" / "checkpoint-6").mkdir(parents=True)  # a save that was cut short
    (recipe.run_dir / "checkpoint-5").mkdir()
    shutil.copytree(recipe.run_dir / "checkpoint-4", recipe.run_dir / "checkpoint-9")
    (recipe.run_dir / "checkpoint-9" / "run.sha256").write_text("of another", encoding="utf-8")
    state = recipe.run_dir / "checkpoint-9" / "trainer_state.json"
    state.write_text(json.dumps({**json.loads(state.read_text(encoding="utf-8")), "global_step": 9}), encoding="utf-8")
    cut = train(recipe, resume=True)
    said = capsys.readouterr().err
    assert "checkpoint-6: incomplete, its save was interrupted" in said and "checkpoint-5: incomplete" in said
    assert "checkpoint-9: belongs to another run" in said
    assert f"resuming from {recipe.run_dir / 'checkpoint-4'}" in said
    for file in sorted((whole / read_manifest(whole).artifact).glob("*.safetensors")):
        ours, theirs = load_file(cut / file.relative_to(whole)), load_file(file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert train(recipe, resume=True) == cut, "a finished run has nothing left to do"


def test_a_resume_that_does_not_fit_is_refused(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("tiny/full", "llama", "training.max_steps=4", "training.save_strategy=no")
    _interrupted(recipe, 1, monkeypatch)
    changed = make_recipe("tiny/full", "llama", "training.max_steps=5", "training.save_strategy=no")
    with pytest.raises(UserError, match=r"training\.max_steps has changed since the run began \(was 4, now 5\)"):
        train(changed, resume=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started with 1 processes and cannot resume with 2"):
        earlier = read_manifest(recipe.run_dir).fingerprint
        check_resume(recipe.run_dir, earlier, earlier.model_copy(update={"world_size": 2}))


def test_a_finished_run_is_not_overwritten_unasked(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe("tiny/full", "llama", "training.max_steps=1")
    train(recipe)
    before = (recipe.run_dir / "run.json").read_bytes()
    with pytest.raises(UserError, match="holds a finished run; add --resume to continue it, --overwrite to delete it"):
        train(recipe)
    assert (recipe.run_dir / "run.json").read_bytes() == before
    train(recipe, overwrite=True)


def test_another_task_needs_only_a_prompt_section(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [
        {"article": f"In {city} it rained all day and the river rose by {n} metres.", "headline": f"{city}: +{n} m"}
        for n, city in enumerate(["Seoul", "Lima", "Oslo", "Rome"], start=1)
    ]
    data = tmp_path / "news.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = make_recipe(
        "tiny/full",
        "llama",
        f"data.train={data}",
        "prompt.system=",
        "prompt.user=Summarise in one line: {{ article }}",
        "prompt.completion={{ headline }}",
        *MEMORISE,
    )
    run_dir = train(recipe)
    summarise = Decomposer(run_dir)
    assert [summarise.text(row["article"]) for row in rows] == [row["headline"] for row in rows]


def test_run_json_says_how_to_repeat_the_run(make_recipe: Callable[..., Recipe]) -> None:
    manifest = read_manifest(train(make_recipe("mistral/lora", "mistral", "training.max_steps=2", "seed=9")))
    assert manifest.recipe["seed"] == 9 and manifest.origins["seed"] == "command line"
    assert manifest.origins["lora.r"].endswith("lora.yaml:" + manifest.origins["lora.r"].rpartition(":")[2])
    assert manifest.versions["torch"].startswith("2.13.0") and manifest.data.train_rows == len(ROWS)
    assert manifest.golden_prompts[0].ids[0] == 1, "one BOS, as the template writes it"
    assert manifest.results.steps == 2 and manifest.results.peak_memory_gib
    assert manifest.tokens.packing is not None
    assert 0 < manifest.tokens.packing.efficiency <= 1


def test_accelerate_launch_does_what_qdsft_train_does(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = make_recipe("tiny/full", "llama", "training.max_steps=2")
    here = train(recipe)
    overrides = [f"{key}={value}" for key, value in _overrides(recipe).items()]
    overrides[-1] = f"training.output_dir={tmp_path / 'launched'}"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate_configs/cpu.yaml"]
    command += ["scripts/run_sft.py", str(recipe.path), *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (load_file(path / "model/model.safetensors") for path in (here, tmp_path / "launched"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def _overrides(recipe: Recipe) -> dict[str, object]:
    values = {key: value for key, value, origin in recipe.rows() if origin == "command line"}
    words = {key: "null" if value is None else value for key, value in values.items()}
    return dict(sorted(words.items(), key=lambda item: item[0] == "training.output_dir"))
