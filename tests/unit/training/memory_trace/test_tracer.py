"""Traces of whole steps: short stacks against all layers, architectures that nothing lists, and the real thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny_recipe import recipe_maker
from helpers.tiny_trainer import make_trainer
from helpers.traced import CPU, CUDA, recipe_of, trace, tracer_of
from transformers import AutoConfig

from qdsft.model.device import Machine
from qdsft.planning.cards import Target
from qdsft.planning.config_file import read_config
from qdsft.planning.fitting import Fitting
from qdsft.planning.peak import ACTIVATIONS, LOSS, OPTIMIZER, TEMPORARIES, WEIGHTS, Traced
from qdsft.planning.way import Way
from qdsft.recipe import load_recipe
from qdsft.tokenization.rows import Row
from qdsft.training.memory_trace.live_storages import LiveStorages
from qdsft.training.memory_trace.tracer import StepTracer, TraceError
from qdsft.training.memory_trace.training_step import StepTrace
from qdsft.training.plan import make_config

TURING = Machine("cuda", "an old GPU", torch.float16)
LAYERS = ["sliding_attention", "sliding_attention", "full_attention"] * 6
ALTERNATING: dict[str, Any] = {"sliding_window": 32, "layer_types": LAYERS, "num_hidden_layers": 18}


@pytest.mark.parametrize(
    ("method", "way", "options"),
    [
        ("qlora_8gb", Way(True), {}),
        ("lora", Way(False), {}),
        pytest.param("lora", Way(True, 4), {"num_hidden_layers": 16}, marks=pytest.mark.slow),
        ("full", Way(True), {}),
        ("full", Way(True), {"sharded": True}),
        pytest.param("lora", Way(True), {"architecture": "gemma3_text", **ALTERNATING}, marks=pytest.mark.slow),
        ("lora", Way(False), {"architecture": "gpt_neox"}),
    ],
    ids=str,
)
def test_short_stacks_agree_with_all_layers(method: str, way: Way, options: dict[str, Any]) -> None:
    options = {"num_hidden_layers": 6, **options}
    short, whole = (trace(method, way=way, full=full, **options) for full in (False, True))
    assert short.allocated == pytest.approx(whole.allocated, rel=0.01)
    assert short.reserved == pytest.approx(whole.reserved, rel=0.05)
    assert list(short.phases) == list(whole.phases)
    for phase, parts in whole.phases.items():
        assert sum(short.phases[phase].values()) == pytest.approx(sum(parts.values()), rel=0.03), phase


@pytest.mark.parametrize("architecture", ["mistral", pytest.param("gemma3_text", marks=pytest.mark.slow)])
def test_short_stacks_decode_as_all_layers(architecture: str) -> None:
    recipe = recipe_of("qlora_8gb")
    options = ALTERNATING if architecture == "gemma3_text" else {"num_hidden_layers": 6}
    short, whole = (tracer_of(architecture, full=full, **options).evaluation(recipe, 100) for full in (False, True))
    assert short.allocated == pytest.approx(whole.allocated, rel=0.01)


OTHERS: dict[str, dict[str, Any]] = {
    "cohere2": {},
    "exaone4": {},
    "gemma2": {},
    "glm4": {"pad_token_id": 0},
    "granite": {},
    "mixtral": {"num_local_experts": 4},
    "olmo2": {},
    "phi3": {"pad_token_id": 0},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
    "smollm3": {"pad_token_id": 0},
    "stablelm": {},
    "starcoder2": {},
}
"""Architectures that no file of this repository describes."""


@pytest.mark.parametrize("architecture", OTHERS)
def test_an_architecture_needs_no_entry_anywhere(architecture: str) -> None:
    options = {**OTHERS[architecture], "num_hidden_layers": 2}
    tracer, recipe = tracer_of(architecture, **options), recipe_of("qlora_8gb")
    step, decoding = tracer.training(recipe, 1, 64, Way(True)), tracer.evaluation(recipe, 30)
    assert step.allocated > decoding.phases["prompt"][WEIGHTS] > 0
    assert step.phases["backward pass of the last layers"][ACTIVATIONS] > 0


def test_a_model_that_reads_values_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer, recipe = tracer_of(), recipe_of()
    monkeypatch.setattr(
        "transformers.models.mistral.modeling_mistral.MistralMLP.forward", lambda _, x: x * x.sum().item()
    )
    with pytest.raises(TraceError, match=r"a step of mistralai/Mistral-7B-v0\.3 cannot be traced without weights: "):
        tracer.training(recipe, 1, 64, Way(True))


def test_the_trace_is_what_a_real_step_needs(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """TRL's trainer itself on a tiny model with weights, forward and backward, under the same count."""
    recipe = recipe_maker(tmp_path, tiny_model)(
        *("training.packing=false", "training.per_device_train_batch_size=1", "training.global_batch_size=2"),
        "training.activation_checkpointing=true",
    )
    rows = [Row([1, *range(3, 202)], 0)]
    trainer = make_trainer(recipe, rows)
    model, inputs = trainer.model, trainer._prepare_inputs(trainer.data_collator(list(trainer.train_dataset)))
    model.train()
    model.activation_checkpointing_enable()  # both as `Trainer.train` does
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    live = LiveStorages()
    with live:
        for weight in model.parameters():
            live.add(weight, WEIGHTS)
            if weight.grad is not None:
                live.add(weight.grad)
        live.start("step")
        trainer.compute_loss(model, inputs).backward()
    real = sum(live.phases["step"].values())
    config = AutoConfig.from_pretrained(recipe.model.name_or_path)
    traced = StepTracer(config, CPU).training(recipe, 1, 200, Way(True))
    step = max(sum(parts.values()) - parts.get(OPTIMIZER, 0) for parts in traced.phases.values())
    assert step == pytest.approx(real, rel=0.03)


def test_a_cuda_gpu_with_triton_needs_less_for_the_loss() -> None:
    tiles, everything = (
        trace("lora", f"training.label_smoothing_factor={value}", length=512, vocab_size=128_000) for value in (0, 0.1)
    )
    assert tiles.phases["loss"][LOSS] == pytest.approx(512 * 32768 * 2 + 512 * 256 * (2 + 4), rel=0.05)
    assert everything.phases["loss"][LOSS] > 512 * 128_000 * 4


def test_held_out_rows_are_scored_where_the_recipe_asks() -> None:
    assert "scoring held-out rows" not in trace().phases
    assert "scoring held-out rows" in trace("lora", "training.eval_strategy=epoch").phases


@pytest.mark.parametrize("rows", ["packing=true", "packing=false", "padding_free=true"])
def test_held_out_rows_have_the_length_of_the_recipe(rows: str) -> None:
    """Each figure is that of one micro-batch: four trained rows do not make scored rows four times as long."""
    scoring = ("training.packing=false", f"training.{rows}", "training.eval_strategy=epoch")
    recipe = recipe_of("lora", *scoring, "training.per_device_eval_batch_size=2", "model.attn_implementation=sdpa")
    tracer = tracer_of(num_hidden_layers=1)
    fitting = Fitting(tracer, Target(80 * 2**30), None)
    scored = []
    for count in (1, 4):
        tokens = ("training.max_length=128", f"training.per_device_train_batch_size={count}")
        given = load_recipe(recipe, [*tokens, "training.activation_checkpointing=true"])
        traced = tracer.training(given, count, 128, Way(True))
        assert fitting.training(given).phases["scoring held-out rows"] > 0
        scored.append(sum(traced.phases["scoring held-out rows"].values()))
        assert fitting.training(given).allocated == pytest.approx(traced.allocated, abs=50)
    assert scored[0] == scored[1]


def test_a_trace_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not change a step does not trace it again, and what changes it does."""
    tracer = tracer_of(num_hidden_layers=1)
    made, trace_one = [], tracer._trace

    def counted(*given: Any, **more: Any) -> Traced:
        made.append(given)
        return trace_one(*given, **more)

    monkeypatch.setattr(tracer, "_trace", counted)
    two = "training.per_device_train_batch_size=2", "training.global_batch_size=8"
    for overrides in ((), ("training.num_train_epochs=1",), ("training.warmup_steps=3", "seed=5")):
        tracer.evaluation(recipe_of("lora", *overrides), 30)
        tracer.training(recipe_of("lora", *overrides, *two), 2, 64, Way(True))
    tracer.training(recipe_of("lora", *two), 1, 128, Way(True))
    assert len(made) == 2, "two packed rows of 64 tokens are one of 128"
    tracer.training(recipe_of("lora", *two, "training.optim=sgd"), 2, 64, Way(True))
    tracer.training(recipe_of("lora", *two), 2, 64, Way(False))
    tracer.evaluation(recipe_of("lora", "evaluation.batch_size=3"), 30)
    assert len(made) == 5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("machine", [CUDA, TURING, CPU], ids=["cuda", "turing", "cpu"])
def test_the_number_format_is_that_of_the_run(dtype: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A float16 recipe is planned in float16 on a GPU that has bfloat16, as it trains there."""
    recipe = recipe_of("lora", f"model.dtype={dtype}")
    tracer = tracer_of(machine=machine, num_hidden_layers=1)
    fake = tracer._model(recipe, trainable=True)
    weight = fake.base.get_input_embeddings().weight
    assert weight.dtype == fake.dtype == machine.choose_dtype(dtype)
    used: list[Any] = []
    run = StepTrace.run

    def watched(step: StepTrace) -> None:
        used.append(step.training.autocast)
        run(step)

    monkeypatch.setattr(StepTrace, "run", watched)
    tracer.training(recipe, 1, 16, Way(True))
    half = {"float16": torch.float16, "bfloat16": torch.float16 if machine is TURING else torch.bfloat16}
    assert used == [None if machine is CPU else half.get(dtype)]


@pytest.mark.parametrize("key", ["activation_offloading", "activation_checkpointing_kwargs.offload"])
def test_offloading_is_planned_as_if_it_were_left_out(key: str) -> None:
    """It was refused, because a trace runs on a CPU."""
    assert trace("lora", f"training.{key}=true").allocated == trace("lora").allocated


def test_the_optimizer_step_of_sharded_weights_has_float32_gradients() -> None:
    sharded = trace("full", sharded=True)
    elements = sharded.phases["loss"][WEIGHTS] / 2
    assert sharded.phases["loss"][OPTIMIZER] == pytest.approx(12 * elements, rel=0.01)
    assert sharded.phases["optimizer step"][TEMPORARIES] == pytest.approx(4 * elements, rel=0.01)


SHIPPED = [path.parent for path in (ROOT / "recipes").glob("*/config.json")]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", sorted(f"{folder.name}/{path.stem}" for folder in SHIPPED for path in folder.glob("*.yaml"))
)
def test_both_agree_for_every_shipped_recipe(name: str) -> None:
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml")
    config, where = read_config(recipe)
    found: list[Traced] = []
    for full in (False, True):
        tracer = StepTracer(make_config(recipe, config, where), CUDA, full=full)
        fitting = Fitting(tracer, Target(80 * 2**30), None)
        setup = fitting.setup(recipe)
        found.append(tracer.training(recipe, setup.micro_batch, setup.length, setup.way))
    assert found[0].allocated == pytest.approx(found[1].allocated, rel=0.01)
