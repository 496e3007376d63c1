"""Every branch that depends on a GPU is listed with the test that reaches it: no GPU has run this code yet."""

from __future__ import annotations

import ast

import pytest
from helpers.cuda_branches import cuda_branches
from helpers.paths import ROOT

FOLDERS = ("qdsft", "scripts", "benchmarks")
GPU = "needs a GPU: "
"""Begins the reason why no test without a GPU reaches a branch."""
BENCHMARK = f"{GPU}the benchmark itself, whose tests run tiny shapes on a CPU"
DEVICE = "tests/unit/model/test_device.py::"
OWN_GPU = f"{DEVICE}test_the_own_gpu_is_the_current_one_before_anything_asks_cuda"
SEVERAL = f"{DEVICE}test_several_gpus_for_one_process_are_refused_for_training_alone"
OLD_GPU = f"{DEVICE}test_an_old_gpu_gets_float16"
FLASH = "tests/unit/model/test_attention.py::test_flash_attention_where_it_runs"
TURING = "tests/unit/model/test_float16.py::test_an_old_gpu_is_refused_with_what_to_set"
NEW_GPU = "tests/unit/model/test_float16.py::test_a_float16_recipe_is_refused_on_a_new_gpu_as_well"
DOCTOR = "tests/unit/planning/doctor/test_machine_checks.py::"
EVERY_GPU = f"{DOCTOR}test_every_gpu_multiplies_and_tells_its_free_memory"
MERGE = "tests/unit/deploy/test_merge.py::"
ON_CPU = f"{MERGE}test_a_merged_model_without_room_on_the_gpu_is_compared_on_the_cpu"
PLANNED = "tests/unit/training/test_checkpointing_choice.py::"
ARITHMETIC = "tests/unit/training/test_build.py::test_the_arithmetic_is_that_of_the_recipe_on_the_gpu"
TRACED = "tests/unit/training/memory_trace/test_tracer.py::test_a_cuda_gpu_with_triton_needs_less_for_the_loss"
CUDA_ASKED = "tests/unit/training/memory_trace/test_cuda_semantics.py::test_without_a_device_the_answer_is_cudas"
CUDA_FORMATS = "tests/unit/training/memory_trace/test_cuda_semantics.py::test_autocast_casts_as_on_cuda"
PROBED = "tests/unit/training/test_memory_probe.py::test_the_peak_of_a_gpu_is_measured_from_the_probe_on"
RECORD = "tests/unit/training/test_run_record.py::test_the_peak_of_a_gpu_is_that_of_its_allocator"
STEP_OF_BFLOAT16 = "tests/unit/training/test_isolation.py::test_the_tolerance_is_no_finer_than_the_number_format"
SELECTED = "tests/unit/inference/test_processes.py::test_each_process_selects_its_gpu_before_it_connects"
SKIPS = "tests/unit/training/test_non_finite.py::test_float16_may_skip_steps_in_a_row_and_no_more"

REACHED_BY = {
    "benchmarks/gpu.py": {
        "main: not options.smoke and shutil.which('nvidia-smi') is None": (
            "tests/repo/test_gpu_benchmark.py::test_without_a_gpu_nothing_is_measured"
        ),
    },
    "benchmarks/gpu_cell.py": {
        "describe: device == 'cuda'": BENCHMARK,
        "describe: torch.cuda.get_device_name()": BENCHMARK,
        "main: capped and device == 'cuda'": BENCHMARK,
        "main: torch.cuda.get_device_properties()": BENCHMARK,
        "main: torch.cuda.is_available()": BENCHMARK,
        "main: torch.cuda.set_per_process_memory_fraction()": BENCHMARK,
    },
    "benchmarks/gpu_models.py": {
        "Clock.on_step_end: torch.cuda.is_available()": BENCHMARK,
        "Clock.on_step_end: torch.cuda.synchronize()": BENCHMARK,
        "clean: torch.cuda.empty_cache()": BENCHMARK,
        "clean: torch.cuda.is_available()": BENCHMARK,
        "mfu: torch.cuda.get_device_name()": BENCHMARK,
        "mfu: torch.cuda.is_available()": BENCHMARK,
        "run: cuda": BENCHMARK,
        "run: torch.cuda.is_available()": BENCHMARK,
        "run: torch.cuda.max_memory_allocated()": BENCHMARK,
        "run: torch.cuda.max_memory_reserved()": BENCHMARK,
        "run: torch.cuda.reset_peak_memory_stats()": BENCHMARK,
        "stock_trainer: method.startswith('qlora') and (not defaults) and cuda": BENCHMARK,
        "stock_trainer: not cuda": BENCHMARK,
        "stock_trainer: torch.cuda.is_available()": BENCHMARK,
    },
    "benchmarks/step.py": {"stock: torch.cuda.is_available()": BENCHMARK},
    "benchmarks/trl_reference.py": {
        "evaluate: torch.cuda.is_available()": BENCHMARK,
        "train: torch.cuda.is_available()": BENCHMARK,
    },
    "qdsft/cli/accelerate.py": {
        "_count_gpus: torch.cuda.device_count()": (
            "tests/unit/cli/test_accelerate.py::test_the_gpus_are_counted_by_torch"
        ),
    },
    "qdsft/deploy/merge.py": {
        "_announce: not torch.cuda.is_available()": f"{MERGE}test_weights_that_are_compared_take_half_as_much_on_a_gpu",
        "_free: torch.cuda.empty_cache()": ON_CPU,
        "_free: torch.cuda.is_available()": ON_CPU,
        "_load_merged: device == 'cuda' and torch.cuda.mem_get_info()[0] < 1.2 * size": ON_CPU,
    },
    "qdsft/inference/processes.py": {
        "launched: torch.cuda.is_available()": SELECTED,
        "launched: torch.cuda.set_device()": SELECTED,
    },
    "qdsft/model/attention.py": {
        "check_flash: wanted == FLASH and is_flash_attn_2_available() and (problem := import_problem('flash_attn'))": (
            "tests/unit/model/test_attention.py::test_a_flash_attention_that_cannot_be_imported_is_not_chosen"
        ),
        "choose_attention: dtype not in {torch.bfloat16, torch.float16}": FLASH,
        "choose_attention: machine.device_type != 'cuda'": FLASH,
        "choose_attention: not is_flash_attn_2_available()": FLASH,
        "choose_attention: torch.cuda.get_device_capability() < OLDEST_GPU": FLASH,
    },
    "qdsft/model/device.py": {
        "Machine.choose_dtype: wanted == 'float16' and self.device_type == 'cuda'": (
            f"{DEVICE}test_the_number_format_follows_the_machine"
        ),
        "Machine.differs: dtype == torch.float16 and wanted in {'auto', 'bfloat16'}": (
            f"{DEVICE}test_another_number_format_than_the_recipes_is_printed"
        ),
        "Machine.own: self.device_type == 'cuda'": OWN_GPU,
        "check_own_gpu: torch.cuda.device_count()": SEVERAL,
        "check_own_gpu: torch.cuda.device_count() > 1 and (not variable('LOCAL_RANK'))": SEVERAL,
        "check_own_gpu: uses_cpu() or not torch.cuda.is_available()": SEVERAL,
        "find_machine: bf16": OLD_GPU,
        "find_machine: index >= torch.cuda.device_count()": f"{DEVICE}test_each_process_takes_its_own_gpu",
        "find_machine: torch.cuda.device_count()": SEVERAL,
        "find_machine: torch.cuda.device_count() > 1 and (not variable('LOCAL_RANK'))": SEVERAL,
        "find_machine: torch.cuda.get_device_name()": OWN_GPU,
        "find_machine: torch.cuda.is_available()": OWN_GPU,
        "find_machine: torch.cuda.is_bf16_supported(including_emulation=False)": OLD_GPU,
        "find_machine: torch.cuda.set_device()": OWN_GPU,
        "fork_rng: torch.cuda.current_device()": f"{DEVICE}test_the_random_state_of_other_gpus_is_left_alone",
        "fork_rng: torch.cuda.is_available()": f"{DEVICE}test_the_random_state_of_other_gpus_is_left_alone",
    },
    "qdsft/model/float16.py": {
        "check_range: machine.choose_dtype(wanted) == torch.float16": TURING,
        "check_range: machine.dtype == torch.bfloat16": NEW_GPU,
        "check_range: own": NEW_GPU,
    },
    "qdsft/model/loading.py": {
        "load_model: machine.device_type == 'cuda' and (not uses_fsdp()) and (zero_stage() < 3)": (
            "tests/unit/model/test_loading.py::test_weights_are_read_into_the_memory_of_the_own_gpu"
        ),
    },
    "qdsft/planning/doctor/machine_checks.py": {
        "ask_driver: shutil.which('nvidia-smi') is None": f"{DOCTOR}test_no_driver_is_a_note",
        "attention: torch.cuda.is_available()": f"{GPU}SDPA runs on a tensor of the GPU",
        "four_bit: torch.cuda.is_available()": f"{GPU}bitsandbytes quantizes a tensor of the GPU",
        "gpus_work: not torch.cuda.is_available()": EVERY_GPU,
        "gpus_work: torch.cuda.device_count()": EVERY_GPU,
        "gpus_work: torch.cuda.get_device_capability()": EVERY_GPU,
        "gpus_work: torch.cuda.get_device_name()": EVERY_GPU,
        "gpus_work: torch.cuda.mem_get_info()": EVERY_GPU,
        "number_format: not torch.cuda.is_available()": f"{DOCTOR}test_a_gpu_without_bfloat16_is_a_note",
        "number_format: torch.cuda.is_bf16_supported(including_emulation=False)": (
            f"{DOCTOR}test_a_gpu_without_bfloat16_is_a_note"
        ),
        "torch_build: cards.names and (not torch.cuda.is_available())": f"{DOCTOR}test_torch_against_the_cards",
    },
    "qdsft/training/checkpointing_choice.py": {
        "free_memory: machine.device_type == 'cuda'": f"{PLANNED}test_on_a_gpu_its_own_free_memory_counts",
        "free_memory: torch.cuda.mem_get_info()": f"{PLANNED}test_on_a_gpu_its_own_free_memory_counts",
    },
    "qdsft/training/build.py": {
        "build_arguments: dtype == torch.bfloat16": ARITHMETIC,
        "build_arguments: dtype == torch.float16": ARITHMETIC,
        "build_trainer: arguments.fp16 or recipe.quantization": (
            "tests/unit/training/test_build.py::test_float16_trains_adapters_in_float32"
        ),
    },
    "qdsft/training/checks.py": {
        "require_checks: run.inputs.recipe.preflight and run.inputs.machine.device_type == 'cuda'": (
            "tests/unit/training/test_checks.py::test_the_memory_is_probed_on_a_gpu_unless_preflight_is_off"
        ),
    },
    "qdsft/training/isolation.py": {
        "compute_dtype: trainer.args.bf16": STEP_OF_BFLOAT16,
        "compute_dtype: trainer.args.fp16": STEP_OF_BFLOAT16,
    },
    "qdsft/training/memory_trace/cuda_semantics.py": {
        "_float32: half": CUDA_FORMATS,
        "_float32: isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)": CUDA_FORMATS,
        "_is_autocast_enabled: device == 'cuda'": CUDA_ASKED,
    },
    "qdsft/training/memory_trace/tracer.py": {
        "StepTracer._trace: self.machine.device_type == 'cuda'": TRACED,
        "StepTracer._training: self.machine.device_type == 'cuda'": TRACED,
    },
    "qdsft/training/memory_probe.py": {
        "_untouched: torch.cuda.empty_cache()": PROBED,
        "_untouched: torch.cuda.is_available()": PROBED,
        "as_trained: device.type == 'cuda'": f"{GPU}DDP checks that the weights are on the GPU of its process",
        "probe_memory: torch.cuda.is_available()": PROBED,
        "probe_memory: torch.cuda.max_memory_allocated()": PROBED,
        "probe_memory: torch.cuda.reset_peak_memory_stats()": PROBED,
    },
    "qdsft/training/non_finite.py": {
        "NonFiniteStop.check_step: trainer.args.fp16 and self._skipped <= FLOAT16_SKIPS": SKIPS,
        "_remedy: trainer.args.fp16": SKIPS,
    },
    "qdsft/training/run_record.py": {
        "_peak_memory: torch.cuda.is_available()": RECORD,
        "_peak_memory: torch.cuda.max_memory_allocated()": RECORD,
    },
}
"""File -> branch, as `helpers.cuda_branches` writes it -> the test that reaches it with the guard turned."""


def found_branches() -> dict[str, list[str]]:
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    found = {path.relative_to(ROOT).as_posix(): cuda_branches(path.read_text(encoding="utf-8")) for path in paths}
    return {path: branches for path, branches in found.items() if branches}


def faults(listed: dict[str, dict[str, str]], found: dict[str, list[str]]) -> list[str]:
    """Return what is wrong with a list of branches: lines that are missing, stale or name no test."""
    wanted = {(path, branch) for path, branches in found.items() for branch in branches}
    lines = {(path, branch): test for path, branches in listed.items() for branch, test in branches.items()}
    problems = [f"{path}: no line for {branch}" for path, branch in wanted - lines.keys()]
    problems += [f"{path}: no such branch: {branch}" for path, branch in lines.keys() - wanted]
    problems += [
        f"{path}: {branch}: no such test: {test}" for (path, branch), test in lines.items() if not exists(test)
    ]
    return sorted(problems)


def exists(test: str) -> bool:
    """Return whether "file::function" is a test, or a reason is given why only a GPU reaches the branch."""
    if test.startswith(GPU):
        return len(test) > len(GPU)
    path, _, name = test.partition("::")
    if not name.startswith("test_") or not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def test_every_branch_has_its_line() -> None:
    assert faults(REACHED_BY, found_branches()) == []


LISTED = {"a.py": {"f: torch.cuda.is_available()": OLD_GPU}}
FOUND = {"a.py": ["f: torch.cuda.is_available()"]}


@pytest.mark.parametrize(
    ("listed", "found", "problem"),
    [
        (LISTED, {**FOUND, "b.py": ["g: x == 'cuda'"]}, "b.py: no line for g: x == 'cuda'"),
        (LISTED, {}, "a.py: no such branch: f: torch.cuda.is_available()"),
        (
            {"a.py": {FOUND["a.py"][0]: f"{DEVICE}test_gone"}},
            FOUND,
            "no such test: tests/unit/model/test_device.py::test_gone",
        ),
        ({"a.py": {FOUND["a.py"][0]: "tests/gone.py::test_x"}}, FOUND, "no such test: tests/gone.py::test_x"),
        ({"a.py": {FOUND["a.py"][0]: GPU}}, FOUND, "no such test: needs a GPU: "),
    ],
)
def test_a_wrong_line_is_a_fault(listed: dict[str, dict[str, str]], found: dict[str, list[str]], problem: str) -> None:
    assert faults(LISTED, FOUND) == []
    [told] = faults(listed, found)
    assert told.endswith(problem)


@pytest.mark.parametrize(
    ("source", "branches"),
    [
        ("def f():\n if torch.cuda.is_available():\n  pass", ["f: torch.cuda.is_available()"]),
        (
            "class A:\n def f(self):\n  return 1 if self.device.type == 'cuda' else 2",
            ["A.f: self.device.type == 'cuda'"],
        ),
        ("x = f(use_cpu=device != 'cuda')", ["module: device != 'cuda'"]),
        (
            "def f():\n cuda = torch.cuda.is_available()\n return 1 if cuda else 2",
            ["f: cuda", "f: torch.cuda.is_available()"],
        ),
        (
            "def f():\n a, cuda = 1, torch.cuda.is_available()\n if cuda:\n  g()",
            ["f: cuda", "f: torch.cuda.is_available()"],
        ),
        ("def f():\n assert shutil.which('nvidia-smi')", ["f: shutil.which('nvidia-smi')"]),
        ("def f():\n g()\n torch.cuda.set_device(1)", ["f: torch.cuda.set_device()"]),
        ("def f(a):\n return [b for b in a if b.dtype == torch.bfloat16]", ["f: b.dtype == torch.bfloat16"]),
        ("def f(args):\n while args.fp16:\n  pass", ["f: args.fp16"]),
        ("def f(backend):\n return backend == 'nccl'", ["f: backend == 'nccl'"]),
        ("def f():\n 'torch.cuda is not asked'\n x = torch.bfloat16\n return 'cuda'", []),
    ],
)
def test_branches_are_found_by_their_syntax(source: str, branches: list[str]) -> None:
    assert cuda_branches(source) == branches
