"""Checkpoints reach the Hub while training continues: weights alone, in private, and later if the Hub fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.loopback_hub import Fault, LoopbackHub, Repo
from helpers.pushing import REPO, reachable_hub
from helpers.tiny_recipe import recipe_maker
from transformers import TrainerState

from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.training.push_checkpoints import BRANCH, PushCheckpoints
from qdsft.training.train import train

RECIPE = """\
model: {{name_or_path: {base}}}
data: {{train: t.jsonl}}
lora: {{r: 4}}
publish: {{push_checkpoints: true, hub_model_id: {repo}}}
training: {{output_dir: {output}}}
"""
ARGUMENTS: Any = SimpleNamespace()
CONTROL: Any = SimpleNamespace()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with reachable_hub(monkeypatch, tmp_path / "home") as server:
        yield server


class Training:
    """A training of which only the callback is run."""

    def __init__(self, folder: Path, *, resumed_at: int = 0) -> None:
        path = folder / "recipe.yaml"
        path.write_text(RECIPE.format(base=folder / "base", repo=REPO, output=folder / "run"), encoding="utf-8")
        (folder / "base").mkdir(exist_ok=True)
        self.run_dir = folder / "run"
        self.run_dir.mkdir(exist_ok=True)
        self.base = str(folder / "base")
        self.state = TrainerState(global_step=resumed_at, is_world_process_zero=True)
        self.callback = PushCheckpoints(load_recipe(path))
        self.callback.on_train_begin(ARGUMENTS, self.state, CONTROL)

    def save(self, step: int, note: str = "") -> Path:
        """Write a checkpoint and tell the callback, which may upload it until `end`."""
        checkpoint = self.run_dir / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "adapter_model.safetensors").write_bytes(b"weights %d" % step)
        config = {"r": 4, "base_model_name_or_path": self.base, "note": note}
        (checkpoint / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        (checkpoint / "chat_template.jinja").write_text("{{ x }}", encoding="utf-8")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            (checkpoint / name).write_bytes(b"pickled")
        (checkpoint / "trainer_state.json").write_text(json.dumps({"best": str(checkpoint)}), encoding="utf-8")
        self.state.global_step = step
        self.callback.on_save(ARGUMENTS, self.state, CONTROL)
        return checkpoint

    def end(self) -> None:
        self.callback.on_train_end(ARGUMENTS, self.state, CONTROL)


def arrived(hub: LoopbackHub) -> set[str]:
    return {name.partition("/")[0] for name in hub.repos[REPO].branches[BRANCH] if "/" in name}


def test_weights_arrive_in_private_without_pickles_or_paths(hub: LoopbackHub, tmp_path: Path) -> None:
    training = Training(tmp_path)
    shutil.rmtree(training.save(1))  # save_total_limit may delete it before it is uploaded
    training.save(2)
    training.end()
    repo = hub.repos[REPO]
    assert repo.private and set(repo.branches["main"]) == {".gitattributes"}
    names = {"adapter_model.safetensors", "adapter_config.json", "chat_template.jinja"}
    expected = {f"checkpoint-{step}/{name}" for step in (1, 2) for name in names}
    assert set(repo.branches[BRANCH]) == {".gitattributes", *expected}
    assert repo.branches[BRANCH]["checkpoint-1/adapter_model.safetensors"] == b"weights 1"
    assert json.loads(repo.branches[BRANCH]["checkpoint-2/adapter_config.json"])["base_model_name_or_path"] == "base"
    everything = b"".join(hub.received)
    assert b"pickled" not in everything and str(tmp_path).encode() not in everything
    assert not list((training.run_dir / ".to-push").iterdir())


@pytest.mark.parametrize("status", [503, 0, 403])
def test_a_hub_that_fails_for_a_while_gets_all_of_them_later(
    hub: LoopbackHub, tmp_path: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(tmp_path)
    hub.faults.append(Fault("POST .*/commit/", status))
    training.save(1)
    training.callback._uploads.submit(int).result()  # the first upload has been tried
    assert "checkpoint-1 is not pushed yet" in capsys.readouterr().err and not arrived(hub)
    hub.faults.clear()
    training.save(2)
    training.end()
    assert arrived(hub) == {"checkpoint-1", "checkpoint-2"}


def test_a_resume_uploads_what_was_left_and_a_new_run_does_not(hub: LoopbackHub, tmp_path: Path) -> None:
    training = Training(tmp_path)
    hub.faults.append(Fault("POST .*/commit/", 500))
    training.save(1)
    training.end()
    hub.faults.clear()
    left = shutil.copytree(training.run_dir / ".to-push", tmp_path / "left")
    Training(tmp_path, resumed_at=1).end()
    assert arrived(hub) == {"checkpoint-1"}
    del hub.repos[REPO]
    shutil.copytree(left, training.run_dir / ".to-push", dirs_exist_ok=True)
    Training(tmp_path).end()
    assert arrived(hub) == set()


@pytest.mark.slow
def test_a_training_pushes_every_checkpoint(
    hub: LoopbackHub, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    make = recipe_maker(tmp_path, tiny_model)
    saves = ["training.save_strategy=steps", "training.save_steps=1", "training.save_total_limit=1"]
    run_dir = train(make(*saves, "publish.push_checkpoints=true", f"publish.hub_model_id={REPO}"))
    assert arrived(hub) == {"checkpoint-1", "checkpoint-2"}
    pushed, name = hub.repos[REPO].branches[BRANCH], "adapter_model.safetensors"
    assert pushed[f"checkpoint-2/{name}"] == (run_dir / "checkpoint-2" / name).read_bytes()
    assert pushed[f"checkpoint-1/{name}"] != pushed[f"checkpoint-2/{name}"]
    assert {Path(one).suffix for one in pushed if "/" in one} <= {".safetensors", ".json", ".jinja"}


def test_a_public_repository_is_refused_before_the_first_step(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.repos[REPO] = Repo(private=False)
    with pytest.raises(UserError, match=f"{REPO} is public"):
        Training(tmp_path)


@pytest.mark.parametrize("secret", ["hf_" + "abcde" * 6, "/home/kim/models"])
def test_a_secret_is_not_uploaded(
    hub: LoopbackHub, tmp_path: Path, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(tmp_path)
    training.save(1, note=secret)
    training.save(2)
    training.end()
    assert arrived(hub) == {"checkpoint-2"}
    assert "checkpoint-1 is not pushed: adapter_config.json: holds" in capsys.readouterr().err


def test_it_needs_a_repository(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("model: {name_or_path: m}\ndata: {train: t.jsonl}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"publish\.push_checkpoints needs publish\.hub_model_id=user/name"):
        load_recipe(tmp_path / "r.yaml", ["publish.push_checkpoints=true"])
