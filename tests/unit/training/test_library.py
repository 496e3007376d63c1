"""`qdsft.train` and its neighbours, as a program or a notebook calls them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.tiny_recipe import recipe_maker

import qdsft
from qdsft.errors import UserError
from qdsft.training.callbacks import StopRequest


def test_the_package_stays_light() -> None:
    code = (
        "import sys, qdsft; assert {'train', 'plan'} <= set(dir(qdsft)); qdsft.load_recipe('tiny/full'); "
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qdsft.nothing  # noqa: B018


@pytest.mark.slow
def test_train_evaluate_and_answer_in_another_thread(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    recipe = recipe_maker(tmp_path, tiny_model)("evaluation.max_new_tokens=4")
    done: list[Any] = []

    def work() -> None:
        run = qdsft.train(recipe)
        done.extend([run, qdsft.evaluate(str(run.run_dir), samples=2), qdsft.Decomposer(run.run_dir)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(240)
    run, results, decompose = done
    assert run.run_dir == recipe.run_dir and run.weights == recipe.run_dir / "adapter"
    assert run.manifest.state == "finished" and run.manifest.results.steps == 2
    assert set(results) == {"tuned"} and 0 <= results["tuned"].means["exact_match"] <= 1
    assert isinstance(decompose.text("Who is older?"), str)
    assert qdsft.train(recipe, resume=True).run_dir == run.run_dir


def test_contradictory_options_are_refused() -> None:
    with pytest.raises(UserError, match="resume and overwrite contradict each other"):
        qdsft.train("tiny/full", resume=True, overwrite=True)


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    found: list[bool] = []

    def work() -> None:
        with StopRequest().listening():
            found.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.slow
def test_a_plan_of_a_mapping(tiny_model: Callable[[str], Path]) -> None:
    recipe = {
        "model": {"name_or_path": tiny_model("llama")},
        "data": {"train": ROOT / "data/examples/sample_train.jsonl"},
    }
    found = qdsft.plan(recipe, ["training.max_length=128"], gpu="RTX 4060")
    assert found.fits and found.target.name == "RTX 4060" and found.setup.length == 128
    tight = qdsft.plan(recipe, ["training.max_length=128"], gpu_memory=0.01)
    assert not tight.fits and tight.changes
    with pytest.raises(UserError, match="give one of them"):
        qdsft.plan(recipe, gpu="RTX 4060", gpu_memory=8)
