"""Bad input that only shows once models are in play: one line, status 1, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.cli.main import main
from qdsft.training.checks import DiskSpace

pytestmark = pytest.mark.slow


@pytest.fixture
def run(
    tmp_path: Path, tiny_model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def run_train(*overrides: str) -> tuple[int, str]:
        places = [f"model.name_or_path={tiny_model('llama')}", f"training.output_dir={tmp_path / 'run'}"]
        data = [f"data.{side}={ROOT / 'data/examples' / f'sample_{side}.jsonl'}" for side in ("train", "eval")]
        options = [*places, *data, "training.report_to=none", "training.max_steps=2", *overrides]
        status = main(["train", str(ROOT / "recipes/tiny/full.yaml"), *options])
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return status, "\n".join(errors)

    return run_train


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.name_or_path=./nope", "./nope is not a folder with a model"),
        ("model.name_or_path=models/nope", "the config.json of models/nope cannot be loaded"),
        ("model.chat_template=nope.jinja", "model.chat_template: no nope.jinja beside the recipe"),
        ("model.chat_template=null", "has no chat template"),
        ("model.attn_implementation=nope", "nope"),
        ("training.max_length=8192", "more than the 4096 positions"),
        ("training.max_length=20", "tokens, more than training.max_length 20"),
        ("training.output_dir=/proc/nope", "/proc/nope: cannot be written"),
        ("training.global_batch_size=7", "is not a multiple of"),
        ("lora.target_modules=[nope]", "nope"),
        ("lora.use_dora=3", "lora.use_dora must be true or false"),
        ("data.train=nope/nope", "the Hub dataset cannot be loaded"),
    ],
)
def test_one_line(run: Callable[..., tuple[int, str]], override: str, message: str) -> None:
    status, errors = run(override)
    assert status == 1
    assert message in errors and len(errors.splitlines()) == 1


def test_a_question_of_100_000_characters_is_decided_by_overlength(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    data = tmp_path / "long.jsonl"
    data.write_text(
        "".join(
            f'{{"question": "{"Why? " * size}{i}", "sub_questions": ["a {i}"]}}\n' for i, size in enumerate([1, 20000])
        ),
        encoding="utf-8",
    )
    places = (f"data.train={data}", "data.eval=null", "data.eval_fraction=0")
    status, errors = run(*places)
    assert status == 1 and "long.jsonl:2: " in errors and "(1 of 2 rows are too long)" in errors
    assert run(*places, "data.overlength=drop")[0] == 0
    assert run(*places, "data.overlength=truncate", f"training.output_dir={tmp_path / 'other'}")[0] == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.name != "posix" or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "t", folder]).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_too_small_is_known_before_training(
    run: Callable[..., tuple[int, str]], small_disk: Path
) -> None:
    status, errors = run(f"training.output_dir={small_disk / 'run'}")
    assert status == 1 and "MiB are needed for 2 checkpoints and the result" in errors


def test_a_disk_that_fills_up_leaves_one_line_and_no_half_result(
    run: Callable[..., tuple[int, str]], small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdsft.training.checks.check_disk", lambda *_: DiskSpace(needed=0, free=1))
    status, errors = run(
        f"training.output_dir={small_disk / 'run'}", "training.save_strategy=steps", "training.save_steps=1"
    )
    assert status == 1 and len(errors.splitlines()) == 1
    assert "disk is full" in errors or "cannot be written" in errors or "is the disk full?" in errors
    assert not (small_disk / "run" / "model").exists()


@pytest.mark.parametrize("options", ["lora.use_dora=true", "lora.use_rslora=true", "lora.init_lora_weights=gaussian"])
def test_any_lora_key_works_by_name(run: Callable[..., tuple[int, str]], options: str) -> None:
    assert run("lora.target_modules=all-linear", options) == (0, "")


def test_eight_bit_works(run: Callable[..., tuple[int, str]]) -> None:
    assert run("lora.target_modules=all-linear", "quantization.load_in_8bit=true") == (0, "")
