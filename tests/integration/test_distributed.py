"""Two real processes (gloo) train as one does: each shipped configuration with each method that goes with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import DistributedType, PartialState
from helpers.launches import EXTENSIONS, How, Job, run_launch
from helpers.paths import ROOT
from helpers.ports import free_port
from peft import PeftModel
from transformers import AutoModelForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from qdsft.inference import generate
from qdsft.recipe import load_recipe
from qdsft.runs.checkpoints import complete_checkpoints
from qdsft.runs.manifest import read_manifest, write_manifest
from qdsft.training import decode_held_out
from qdsft.training.train import train
from qdsft.training.trainer import RecipeTrainer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUNS = {
    "ddp": ("lora", "qlora", "full"),
    "zero1": ("lora", "full"),
    "zero2": ("lora", "qlora", "full"),
    "zero3": ("lora", "full"),
    "zero3_offload": ("lora", "full"),
}
"""Configuration -> the methods of which it is the docs' table that they run with it."""

TOLERANCE = 2e-6
"""Largest difference of a weight from one process's. Sums of gradients are formed in another order, and Adam's first
steps, which divide by what is nearly the gradient itself, pass that on undamped. Another order of the rows moves
weights ten times as far."""
CUT: How = "cut back and resume"
RESUME_TOLERANCE = {"zero3_offload": 1e-7}
"""Largest difference between a resumed and an uninterrupted run, where it is not 0: DeepSpeed's Adam on the CPU
multiplies powers of its decay rates up from step to step, and recomputes them after a resume."""


@pytest.fixture
def job(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Job]:
    data = tmp_path / "rows.jsonl"
    row = '{"question": "How old is number %d?", "sub_questions": ["Who is number %d?", "How old is #1?"]}\n'
    data.write_text("".join(row % (i, i) for i in range(40)), encoding="utf-8")

    def make(method: str, run: str, how: How = "start", *overrides: str) -> Job:
        fixed = [
            f"model.name_or_path={tiny_model('mistral')}",
            "model.dtype=float32",
            f"data.train={data}",
            "data.eval=null",
            "data.eval_fraction=0",
            f"training.output_dir={tmp_path / run}",
            "training.max_steps=4",
            "training.save_strategy=steps",
            "training.save_steps=2",
            "training.save_total_limit=2",
            "training.report_to=none",
            "training.packing=false",
            "training.per_device_train_batch_size=1",
            "training.global_batch_size=4",
        ]
        return str(ROOT / f"recipes/mistral/{method}.yaml"), [*fixed, *overrides], how

    return make


def weights(run_dir: Path, folder: str) -> dict[str, torch.Tensor]:
    """What transformers and PEFT make of the saved weights, without anything of ours."""
    manifest = read_manifest(run_dir)
    if manifest.artifact == "model":
        model = AutoModelForCausalLM.from_pretrained(run_dir / folder, dtype=torch.float32)
    else:
        base = AutoModelForCausalLM.from_pretrained(manifest.base_model.name_or_path, dtype=torch.float32)
        model = PeftModel.from_pretrained(base, run_dir / folder)
    return {
        name: weight for name, weight in model.state_dict().items() if manifest.artifact == "model" or "lora_" in name
    }


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys() and one
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


@pytest.mark.parametrize(
    "config",
    # ZeRO-1 is a part of ZeRO-2; the offload compiles DeepSpeed's Adam for half a minute.
    [pytest.param(one, marks=pytest.mark.exhaustive if one in {"zero1", "zero3_offload"} else ()) for one in RUNS],
)
def test_two_processes_train_as_one_and_resume(config: str, job: Callable[..., Job], tmp_path: Path) -> None:
    methods = RUNS[config]
    # ZeRO makes one flat tensor of the weights, and the 8-bit AdamW of QLoRA then rounds its states in other blocks.
    optimizer = {"qlora": ["training.optim=adamw_torch"]} if config == "zero2" else {}
    jobs = [job(method, method, how, *optimizer.get(method, [])) for method in methods for how in ("start", CUT)]
    run_launch(config, 2, jobs)
    for method in methods:
        recipe, overrides, _ = job(method, f"one-{method}", "start", *optimizer.get(method, []))
        one = train(load_recipe(recipe, overrides))
        run_dir = tmp_path / method
        artifact = read_manifest(run_dir).artifact
        resumed, whole, single = weights(run_dir, artifact), weights(run_dir, "whole"), weights(one, artifact)
        assert largest_difference(whole, single) <= TOLERANCE, method
        assert largest_difference(whole, resumed) <= RESUME_TOLERANCE.get(config, 0.0), method


@pytest.mark.parametrize(
    ("config", "method", "optim", "file"),
    [
        ("ddp", "lora", "adamw_torch", "rng_state_1.pth"),
        ("zero3", "full", "adamw_8bit", "global_step4/zero_pp_rank_1_*optim_states.pt"),
    ],
)
def test_all_processes_pass_over_an_incomplete_checkpoint(
    config: str, method: str, optim: str, file: str, job: Callable[..., Job], tmp_path: Path
) -> None:
    """Also: a resume with the 8-bit states of adamw_8bit, which ZeRO shards, changes no weight."""
    run_launch(config, 2, [job(method, "run", "start", f"training.optim={optim}")])
    run_dir = tmp_path / "run"
    manifest = read_manifest(run_dir)
    (run_dir / manifest.artifact).rename(run_dir / "whole")
    manifest.state = "running"
    write_manifest(run_dir, manifest)
    (lost,) = (run_dir / "checkpoint-4").glob(file)
    assert (b"absmax1" in lost.read_bytes()) == (optim == "adamw_8bit")
    lost.unlink()
    run_launch(config, 2, [job(method, "run", "resume", f"training.optim={optim}")])
    assert lost.is_file(), "training resumed from checkpoint-2 and saved checkpoint-4 again"
    assert largest_difference(weights(run_dir, "whole"), weights(run_dir, manifest.artifact)) == 0


def shard_as_on_cards() -> None:
    """FSDP on a CPU: accelerate takes it for a machine with cards whose processes speak gloo."""
    connect = PartialState.__init__

    def disguised(self: PartialState, *arguments: Any, **options: Any) -> None:
        connect(self, *arguments, **options)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = disguised  # type: ignore[method-assign]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_fsdp_trains_as_one_process(method: str, job: Callable[..., Job], tmp_path: Path) -> None:
    run_launch("fsdp2", 2, [job(method, method), job(method, method, CUT)], shard_as_on_cards)
    one = train(load_recipe(*job(method, f"one-{method}")[:2]))
    artifact = read_manifest(one).artifact
    whole = weights(tmp_path / method, "whole")
    assert largest_difference(whole, weights(one, artifact)) <= TOLERANCE
    assert largest_difference(whole, weights(tmp_path / method, artifact)) == 0


def end_rows_apart() -> None:
    """Decode held-out rows with many stop tokens in the first process, and with none in the second; FSDP on a CPU too.

    Rows of the first process then end at different steps, and those of the second at max_new_tokens.
    """
    shard_as_on_cards()
    real = generate.generate

    def ending(model: Any, tokenizer: Any, prompts: Any, _: Any, **options: Any) -> Iterator[Any]:
        is_first = PartialState().process_index == 0
        stop_ids = list(range(0, len(tokenizer), 12)) if is_first else [len(tokenizer) + 1]
        found = list(real(model, tokenizer, prompts, stop_ids, **options))
        assert (len({answer.tokens for _, answer in found}) > 1) == is_first
        yield from found

    decode_held_out.generate = ending  # type: ignore[assignment, attr-defined]


@pytest.mark.parametrize("config", ["zero3", "fsdp2"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_held_out_rows_that_end_at_different_steps_are_decoded_during_training(
    config: str, method: str, job: Callable[..., Job], tmp_path: Path
) -> None:
    watched = ("data.eval_fraction=0.4", "evaluation.every_steps=2", "evaluation.samples=9", "evaluation.batch_size=4")
    run_launch(config, 2, [job(method, method, "start", *watched, "evaluation.max_new_tokens=24")], end_rows_apart)
    lines = [json.loads(line) for line in (tmp_path / method / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if "eval_sari" in line] == [0, 2, 4]


def test_the_held_out_loss_of_two_processes_is_that_of_one(job: Callable[..., Job], tmp_path: Path) -> None:
    watched = ("data.eval_fraction=0.4", "training.eval_strategy=steps", "training.eval_steps=2")
    sizes = {"two": "training.per_device_eval_batch_size=4", "one": "training.per_device_eval_batch_size=2"}
    run_launch("ddp", 2, [job("lora", "two", "start", *watched, sizes["two"])])
    train(load_recipe(*job("lora", "one", "start", *watched, sizes["one"])[:2]))
    assert read_manifest(tmp_path / "two").data.eval_rows % 8, "the test must have an incomplete batch"
    losses = []
    for run in sizes:
        lines = [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        losses.append([line["eval_loss"] for line in lines if "eval_loss" in line])
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], rel=1e-5)


def leak() -> None:
    """Pack rows without their position ids, so that samples see each other; FSDP on a CPU too."""
    shard_as_on_cards()
    collate = DataCollatorForLanguageModeling.torch_call

    def leaking(self: Any, rows: Any) -> dict[str, Any]:
        batch = collate(self, rows)
        return {key: batch[key] for key in ("input_ids", "labels")}

    DataCollatorForLanguageModeling.torch_call = leaking


PACKED = (
    "training.packing=true",
    "training.max_length=256",
    "training.global_batch_size=2",
    "training.max_steps=2",
)


@pytest.mark.parametrize("config", ["zero1", "zero2", "zero3", "fsdp2"])
def test_packed_samples_are_isolated_whatever_shards_the_weights(
    config: str, job: Callable[..., Job], tmp_path: Path
) -> None:
    run_launch(config, 2, [job("lora", "packed", "start", *PACKED)], shard_as_on_cards)
    checks = {check.name: check.found for check in read_manifest(tmp_path / "packed").results.preflight}
    assert "logits move by" in checks["isolation"]
    assert ("in a model of 2 layers" in checks["isolation"]) is (config in {"zero3", "fsdp2"})
    with pytest.raises(AssertionError, match=r"SharedError: .*samples in one row see each other"):
        run_launch(config, 2, [job("lora", "leaking", "start", *PACKED)], leak)


def test_four_processes_train_as_one(job: Callable[..., Job], tmp_path: Path) -> None:
    run_launch("ddp", 4, [job("lora", "four")])
    one = train(load_recipe(*job("lora", "one")[:2]))
    assert largest_difference(weights(tmp_path / "four", "adapter"), weights(one, "adapter")) <= TOLERANCE


def terminate_the_second() -> None:
    """SIGTERM to the second process when it has taken a step, as a pod that is taken away sends it to one or to all."""
    step = RecipeTrainer.training_step

    def stepping(self: RecipeTrainer, *arguments: Any, **options: Any) -> Any:
        if self.state.global_step == 1 and self.args.process_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments, **options)

    RecipeTrainer.training_step = stepping  # type: ignore[method-assign]


def test_a_signal_to_one_process_saves_and_stops_all(job: Callable[..., Job], tmp_path: Path) -> None:
    save_at_the_end = ("training.save_strategy=steps", "training.save_steps=4")
    run_launch("ddp", 2, [job("lora", "stopped", "start", *save_at_the_end)], terminate_the_second)
    complete, incomplete = complete_checkpoints(tmp_path / "stopped")
    assert [path.name for path in complete] == ["checkpoint-2"] and not incomplete
    assert read_manifest(tmp_path / "stopped").state == "running"
    jobs = [job("lora", "stopped", "resume", *save_at_the_end), job("lora", "whole", "start", *save_at_the_end)]
    run_launch("ddp", 2, jobs)
    assert largest_difference(weights(tmp_path / "stopped", "adapter"), weights(tmp_path / "whole", "adapter")) == 0


def test_two_machines_started_apart_train_as_one_process(job: Callable[..., Job], tmp_path: Path) -> None:
    recipe, overrides, _ = job("full", "apart")
    port = str(free_port())
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--main_process_port", port),
        *("--config_file", "accelerate_configs/multi_node_zero3.yaml", "--num_machines", "2", "--num_processes", "2"),
        *("--main_process_ip", "127.0.0.1"),
    ]
    environment = {**os.environ, "TORCH_EXTENSIONS_DIR": str(EXTENSIONS), "OMP_NUM_THREADS": "1"}
    machines = [
        subprocess.Popen(
            [*command, "--machine_rank", str(rank), "scripts/run_sft.py", recipe, *overrides],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [machine.communicate(timeout=300)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    one = train(load_recipe(*job("full", "one")[:2]))
    assert largest_difference(weights(tmp_path / "apart", "model"), weights(one, "model")) <= TOLERANCE


def test_the_tolerances_tell_an_order_of_rows_from_another(job: Callable[..., Job]) -> None:
    for method in ("lora", "qlora", "full"):
        one, other = (
            train(load_recipe(*job(method, f"{method}-{seed}", "start", f"training.data_seed={seed}")[:2]))
            for seed in (1, 2)
        )
        artifact = read_manifest(one).artifact
        assert largest_difference(weights(one, artifact), weights(other, artifact)) > 10 * TOLERANCE, method
