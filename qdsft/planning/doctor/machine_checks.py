"""The machine, seen with the libraries that train on it: driver, cards, number formats, kernels, compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from qdsft.environment import variable
from qdsft.planning.doctor.finding import Finding

QUERY = "--query-gpu=name,memory.total,driver_version"
SECONDS = 20
"""How long nvidia-smi may take: it hangs where a card has fallen off the bus."""
OLDEST_DRIVER = {12: 525, 13: 580}
"""CUDA release -> oldest NVIDIA driver on Linux that runs it (NVIDIA's CUDA compatibility guide)."""
PINNED_CUDA = 13
"""What the pinned torch is built for on Linux; read from torch itself where it has CUDA."""
NF4_ERROR = 0.2
"""Relative error of a normal matrix behind a round through nf4 lies near 0.1."""


@dataclass(frozen=True)
class Cards:
    """What nvidia-smi says."""

    names: tuple[str, ...] = ()
    driver: str = ""
    problem: str = ""
    """Why it does not answer, though it is installed."""


def ask_driver() -> Cards:
    """Ask nvidia-smi; an empty answer where there is none."""
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
    """Whether there is a driver and it is new enough for torch's CUDA."""
    name = "driver"
    if cards.problem:
        remedy = "restart the machine or install the driver anew; in a container, start it with --gpus all"
        return Finding(name, "failed", cards.problem, remedy)
    if not cards.names:
        return Finding(name, "note", "no NVIDIA driver: training runs on the CPU, slowly")
    cuda = _torch_cuda() or PINNED_CUDA
    oldest = OLDEST_DRIVER.get(cuda, max(OLDEST_DRIVER.values()))
    found = f"{cards.driver}, cards: {', '.join(cards.names)}"
    major = cards.driver.split(".")[0]
    if major.isdigit() and int(major) < oldest:
        return Finding(name, "failed", found, f"CUDA {cuda} needs driver {oldest} or newer; update it, or rent another")
    return Finding(name, "ok", found)


def torch_build(cards: Cards) -> Finding:
    """Whether torch can use the cards that the driver sees."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    found = f"{torch.__version__}, {build}"
    if cards.names and torch.version.cuda is None:
        remedy = f"install one that sees the card: pip install torch=={_plain(found)}"
        if sys.platform == "win32":  # there pip's own is built without CUDA
            remedy += " with the --index-url that pytorch.org/get-started/locally shows for CUDA, or use WSL2"
        return Finding("torch", "failed", found, remedy)
    if cards.names and not torch.cuda.is_available():
        return Finding("torch", "failed", f"{found}, sees no card", "update the driver; look at CUDA_VISIBLE_DEVICES")
    return Finding("torch", "ok", found)


def cards_work() -> Finding:
    """Multiply on each card, and say what memory others hold there."""
    import torch

    if not torch.cuda.is_available():
        return Finding("cards", "note", f"none that torch can use; {torch.get_num_threads()} CPU threads")
    parts, crowded = [], False
    for index in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f"cuda:{index}")
        if (ones @ ones).sum().item() != 64**3:
            return Finding("cards", "failed", f"card {index} multiplies wrongly", "take another card")
        free, total = torch.cuda.mem_get_info(index)
        crowded = crowded or free < 0.9 * total
        capability = ".".join(map(str, torch.cuda.get_device_capability(index)))
        name = torch.cuda.get_device_name(index)
        parts.append(f"{name}, compute {capability}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    remedy = "other processes hold memory there: nvidia-smi lists them" if crowded else ""
    return Finding("cards", "note" if crowded else "ok", "; ".join(parts), remedy)


def number_format() -> Finding:
    """Whether bfloat16 is computed in hardware."""
    import torch

    if not torch.cuda.is_available():
        return Finding("bfloat16", "note", "no card: recipes compute in float32")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Finding("bfloat16", "ok", "computed by the card")
    return Finding("bfloat16", "note", "not computed by this card: recipes take float16 instead")


def four_bit() -> Finding:
    """Send a matrix through nf4 and back."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.randn(128, 128, generator=torch.Generator().manual_seed(0)).to(device)
    back = dequantize_4bit(*quantize_4bit(matrix, quant_type="nf4"))
    error = ((back - matrix).norm() / matrix.norm()).item()
    found = f"{metadata.version('bitsandbytes')}, nf4 on {device}: relative error {error:.2f}"
    if not error < NF4_ERROR:
        return Finding("bitsandbytes", "failed", found, "QLoRA would train on wrong weights; pip install it anew")
    return Finding("bitsandbytes", "ok", found)


def attention(wanted: str | None) -> Finding:
    """Run SDPA, and look for the packages of what the recipe wants (model.attn_implementation)."""
    import torch

    query = torch.ones(1, 1, 4, 8, device="cuda" if torch.cuda.is_available() else "cpu")
    torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
    names = {name: _version(name) for name in ("flash-attn", "kernels")}
    found = "sdpa runs; " + ", ".join(f"{name} {version or 'not installed'}" for name, version in names.items())
    if wanted and "flash" in wanted and not any(names.values()):
        remedy = "pip install kernels, or take model.attn_implementation=sdpa"
        return Finding("attention", "failed", f"the recipe wants {wanted}; {found}", remedy)
    return Finding("attention", "ok", found)


def deepspeed(cards: Cards) -> Finding:
    """DeepSpeed for several cards; it compiles parts of itself at its first start."""
    version = _version("deepspeed")
    if version is None:
        return Finding(
            "deepspeed", "note", "not installed", "for several cards with ZeRO: pip install -e '.[deepspeed]'"
        )
    import_module("deepspeed")  # which looks at its own build, and fails if that is broken

    compiler = variable("CXX", "g++")
    missing = [tool for tool in (compiler, "ninja") if shutil.which(tool) is None and not _beside_python(tool)]
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("Python.h")
    if missing:
        remedy = "ZeRO cannot start without; on Debian and Ubuntu: apt-get install g++ ninja-build python3-dev"
        needed = len(cards.names) > 1
        return Finding("deepspeed", "failed" if needed else "note", f"{version}, no {', '.join(missing)}", remedy)
    toolkit = shutil.which("nvcc") or shutil.which("nvcc", path=f"{variable('CUDA_HOME', '/usr/local/cuda')}/bin")
    if toolkit is None:
        remedy = "only offloading to the CPU needs it: take an image with the CUDA toolkit (devel)"
        return Finding("deepspeed", "note" if cards.names else "ok", f"{version}, {compiler}, no nvcc", remedy)
    return Finding("deepspeed", "ok", f"{version}, {compiler}, nvcc")


def _beside_python(tool: str) -> bool:
    return (Path(sysconfig.get_path("scripts")) / tool).is_file()


def _torch_cuda() -> int | None:
    """CUDA release that torch is built for; None for a CPU build, or a torch that cannot be imported."""
    try:
        import torch
    except Exception:  # said by the line about torch
        return None
    return int(torch.version.cuda.split(".")[0]) if torch.version.cuda else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _plain(found: str) -> str:
    return found.partition("+")[0].partition(",")[0]
