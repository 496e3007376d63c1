"""`qdsft plan` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.traced import SMALL

from qdsft.cli.main import main
from qdsft.training import plan as planning


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def recipe(tmp_path: Path) -> list[str]:
    config = {"model_type": "llama", "max_position_embeddings": 4096, **SMALL}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return ["plan", "recipes/llama2/qlora_8gb.yaml", f"model.name_or_path={tmp_path}"]


def test_text(recipe: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*recipe, "--gpu", "rtx 4060", "--must-fit"]) == 0
    out = capsys.readouterr().out
    for part in ("estimates", "on RTX 4060 of 8.00 GiB", "weights", "CUDA context"):
        assert part in out
    assert "fits, with " in out
    assert "at other moments: loading " in out and "allocated by PyTorch" in out


@pytest.mark.slow
def test_json_holds_the_same(recipe: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*recipe, "--json", "--gpu-memory", "6.5", "training.max_length=512"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modelled"] and found["fits"]
    assert found["gpu_memory"] == int(6.5 * 2**30)
    assert found["length"] == 512
    assert sum(found["training"]["components"].values()) == found["training"]["total"]


@pytest.mark.slow
def test_too_little_memory_is_an_answer_and_an_error_only_on_request(
    recipe: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = planning.plan(recipe[1], recipe[2:], gpu_memory=0.4)  # once for both commands
    monkeypatch.setattr(planning, "plan", lambda *_arguments, **_options: found)
    for options, status in (([], 0), (["--must-fit"], 1)):
        assert main([*recipe, "--gpu-memory", "0.4", *options]) == status
        out, err = capsys.readouterr()
        assert "does not fit; apply these changes in order until it does:" in out
        assert ("error: recipes/llama2/qlora_8gb.yaml does not fit a GPU of 0.4 GiB; add" in err) == bool(status)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "GTX 1080"], "error: --gpu GTX 1080: not listed"),
        (["--gpu", "T4", "--gpu-memory", "8"], "error: --gpu and --gpu-memory both set"),
        (["--zero", "2"], "error: --zero shards over several GPUs"),
        (["--zero", "3", "--gpus", "2"], "error: --zero 3 cannot shard quantized weights"),
        (["--gpus", "3"], "global_batch_size 8 is not a multiple"),
        (
            ["model.name_or_path=nobody/nothing"],
            "config.json of nobody/nothing is not on this machine, and the Hub does not give it",
        ),
        (["training.max_lenght=3"], "did you mean max_length"),
    ],
    ids=str,
)
def test_user_errors_are_one_line(
    arguments: list[str], message: str, recipe: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*recipe, *arguments]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments", [["--gpu-memory", "0"], ["--gpu-memory", "nan"], ["--gpus", "0"], ["--zero", "4"]]
)
def test_wrong_usage(arguments: list[str], recipe: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*recipe, *arguments])
    assert raised.value.code == 2


@pytest.mark.parametrize("value", ["none", "0", "nan", "8GB", "-1", "1e9"])
def test_a_memory_size_that_is_none_is_named(value: str, recipe: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*recipe, f"--gpu-memory={value}"])
    said = capsys.readouterr().err
    assert f"argument --gpu-memory: '{value}' is not a memory size in GiB; give a number such as 8 or 7.5" in said


@pytest.mark.slow
def test_a_plan_of_7_billion_weights_takes_10_seconds_of_one_core() -> None:
    code = (
        "import sys, time\nfrom qdsft.cli.main import main\nmain(sys.argv[1:])\n"
        "print(time.process_time(), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "plan", "recipes/mistral/qlora_8gb.yaml", "--gpu-memory", "8"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    *said, seconds = done.stderr.strip().splitlines()
    assert float(seconds) < 12, "10 on an idle core; processes beside this one cost time, too"
    assert len(said) == 1 and "tracing a step of mistralai/Mistral-7B-v0.3" in said[0]
