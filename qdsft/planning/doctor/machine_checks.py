"""Checks of the machine with the libraries that train on it: driver, GPUs, number formats, kernels, compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from qdsft.environment import variable
from qdsft.optional_packages import import_problem, install_command
from qdsft.planning.doctor.finding import Finding
from qdsft.tested_versions import installed_version

QUERY = "--query-gpu=name,memory.total,driver_version"
SECONDS = 20
"""Time limit for nvidia-smi, which hangs when a GPU has fallen off the bus."""
OLDEST_DRIVER = {12: 525, 13: 580}
"""CUDA release -> oldest NVIDIA driver on Linux that runs it (NVIDIA's CUDA compatibility guide)."""
PINNED_CUDA = 13
"""CUDA release of the pinned torch on Linux; a torch with CUDA is asked itself."""
BUILD_TOOLS = "on Debian and Ubuntu: apt-get install g++ ninja-build python3-dev"
"""How to install what `missing_build_tools` looks for."""
NF4_ERROR = 0.2
"""Limit for the relative error of a random normal matrix after nf4 quantization, which is about 0.1."""


@dataclass(frozen=True)
class Cards:
    """The output of nvidia-smi."""

    names: tuple[str, ...] = ()
    driver: str = ""
    problem: str = ""
    """Why nvidia-smi fails, although it is installed."""


def ask_driver() -> Cards:
    """Ask nvidia-smi for the GPUs; without nvidia-smi the result is empty."""
    if shutil.which("nvidia-smi") is None:
        return Cards()
    command = ["nvidia-smi", QUERY, "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Cards(problem=f"nvidia-smi has not answered in {SECONDS} s")
    except OSError as error:
        return Cards(problem=f"nvidia-smi cannot be started: {error.strerror}")
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 2]
    if done.returncode or not rows:
        said = next((line for line in (done.stdout + done.stderr).splitlines() if line.strip()), "nothing")
        return Cards(problem=f"nvidia-smi fails: {said.strip()}")
    return Cards(tuple(f"{name} ({memory})" for name, memory, _ in rows), rows[0][2])


def driver(cards: Cards) -> Finding:
    """Check that there is a driver, and that it is new enough for torch's CUDA."""
    name = "driver"
    if cards.problem:
        remedy = "restart the machine or reinstall the driver; start a container with --gpus all"
        return Finding(name, "failed", cards.problem, remedy)
    if not cards.names:
        return Finding(name, "note", "no NVIDIA driver: training runs on the CPU, slowly")
    cuda = _torch_cuda() or PINNED_CUDA
    oldest = OLDEST_DRIVER.get(cuda, max(OLDEST_DRIVER.values()))
    found = f"{cards.driver}, GPUs: {', '.join(cards.names)}"
    major = cards.driver.split(".")[0]
    if major.isdigit() and int(major) < oldest:
        return Finding(
            name, "failed", found, f"CUDA {cuda} needs driver {oldest} or newer; update it, or rent another machine"
        )
    return Finding(name, "ok", found)


def torch_build(cards: Cards) -> Finding:
    """Check that torch can use the GPUs that the driver sees."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    found = f"{torch.__version__}, {build}"
    if cards.names and torch.version.cuda is None:
        remedy = f"install a build with CUDA: pip install torch=={_plain(found)}"
        if sys.platform == "win32":  # PyPI's Windows build has no CUDA
            remedy += " with the --index-url that pytorch.org/get-started/locally shows for CUDA, or use WSL2"
        return Finding("torch", "failed", found, remedy)
    if cards.names and not torch.cuda.is_available():
        return Finding("torch", "failed", f"{found}, sees no GPU", "update the driver; check CUDA_VISIBLE_DEVICES")
    return Finding("torch", "ok", found)


def gpus_work() -> Finding:
    """Multiply on each GPU, and report how much of its memory is free."""
    import torch

    if not torch.cuda.is_available():
        return Finding("gpus", "note", f"none that torch can use; {torch.get_num_threads()} CPU threads")
    parts, crowded = [], False
    for index in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f"cuda:{index}")
        if (ones @ ones).sum().item() != 64**3:
            return Finding("gpus", "failed", f"GPU {index} computes a wrong product", "use another GPU")
        free, total = torch.cuda.mem_get_info(index)
        crowded = crowded or free < 0.9 * total
        capability = ".".join(map(str, torch.cuda.get_device_capability(index)))
        name = torch.cuda.get_device_name(index)
        parts.append(f"{name}, compute {capability}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    remedy = "other processes use GPU memory; nvidia-smi lists them" if crowded else ""
    return Finding("gpus", "note" if crowded else "ok", "; ".join(parts), remedy)


def number_format() -> Finding:
    """Check that the GPU computes bfloat16 in hardware."""
    import torch

    if not torch.cuda.is_available():
        return Finding("bfloat16", "note", "no GPU: recipes compute in float32")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Finding("bfloat16", "ok", "supported by the GPU")
    return Finding("bfloat16", "note", "not supported by this GPU: recipes use float16 instead")


def four_bit() -> Finding:
    """Quantize a matrix to nf4 and back."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.randn(128, 128, generator=torch.Generator().manual_seed(0)).to(device)
    back = dequantize_4bit(*quantize_4bit(matrix, quant_type="nf4"))
    error = ((back - matrix).norm() / matrix.norm()).item()
    found = f"{metadata.version('bitsandbytes')}, nf4 on {device}: relative error {error:.2f}"
    if not error < NF4_ERROR:
        return Finding("bitsandbytes", "failed", found, "QLoRA would train on wrong weights; reinstall bitsandbytes")
    return Finding("bitsandbytes", "ok", found)


def attention() -> Finding:
    """Run SDPA, and list the packages of other attention kernels."""
    import torch

    query = torch.ones(1, 1, 4, 8, device="cuda" if torch.cuda.is_available() else "cpu")
    torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
    names = {name: installed_version(name) for name in ("flash-attn", "kernels")}
    found = "sdpa runs; " + ", ".join(f"{name} {version or 'not installed'}" for name, version in names.items())
    if names["flash-attn"] and (problem := import_problem("flash_attn")):
        remedy = f"install a build for torch {torch.__version__}; attn_implementation auto uses sdpa until then"
        return Finding("attention", "note", f"{found}; flash-attn cannot be imported: {problem}", remedy)
    return Finding("attention", "ok", found)


def deepspeed(cards: Cards) -> Finding:
    """Check DeepSpeed, and the tools with which it compiles parts of itself at its first start."""
    version = installed_version("deepspeed")
    if version is None:
        remedy = f"for ZeRO on several GPUs: {install_command('deepspeed')}"
        return Finding("deepspeed", "note", "not installed", remedy)
    import_module("deepspeed")  # fails if its build is broken

    if missing := missing_build_tools():
        needed = len(cards.names) > 1
        found = f"{version}, no {', '.join(missing)}"
        return Finding("deepspeed", "failed" if needed else "note", found, f"ZeRO requires them; {BUILD_TOOLS}")
    return Finding("deepspeed", "ok", f"{version}, {variable('CXX', 'g++')}")


def missing_build_tools() -> list[str]:
    """Return which of the tools are missing that DeepSpeed compiles its CPU code with. It requires no nvcc for that."""
    missing = [
        tool for tool in (variable("CXX", "g++"), "ninja") if not shutil.which(tool) and not _beside_python(tool)
    ]
    return missing if (Path(sysconfig.get_path("include")) / "Python.h").is_file() else [*missing, "Python.h"]


def _beside_python(tool: str) -> bool:
    return (Path(sysconfig.get_path("scripts")) / tool).is_file()


def _torch_cuda() -> int | None:
    """Return the CUDA release of torch; None for a CPU build, or if torch cannot be imported."""
    try:
        import torch
    except Exception:  # reported by the check of torch
        return None
    return int(torch.version.cuda.split(".")[0]) if torch.version.cuda else None


def _plain(found: str) -> str:
    return found.partition("+")[0].partition(",")[0]
