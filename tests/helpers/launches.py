"""Start several training processes as accelerate launch does with a shipped configuration.

They are forked from a process that has imported everything, so that a launch takes seconds; what accelerate would
put into their environment is computed by accelerate itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import traceback
from contextlib import suppress
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.commands import launch
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from helpers.paths import ROOT
from helpers.ports import free_port

from qdsft.errors import Interrupted
from qdsft.recipe import load_recipe
from qdsft.runs.checkpoints import complete_checkpoints
from qdsft.runs.manifest import read_manifest, write_manifest
from qdsft.training.train import train

EXTENSIONS = ROOT / ".pytest_cache" / "torch_extensions"
"""Folder in which DeepSpeed caches compiled code, which takes minutes to build."""
SECONDS = 600

How = Literal["start", "cut back and resume", "resume"]
Job = tuple[str, list[str], How]
"""(recipe, overrides, how to train)."""


def run_launch(config: str, processes: int, jobs: list[Job], prepare: Any = None) -> None:
    """Train each job in turn with accelerate_configs/`config`.yaml on so many processes; raises AssertionError for
    what fails in any of them. `prepare`, a function of a module, is called in each process first.
    """
    environment = launcher_environment(config, processes)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qdsft.training.train", "deepspeed", "helpers.launches"])
    failures: Queue[str] = context.Queue()
    workers = [
        context.Process(target=_work, args=(rank, processes, environment, jobs, prepare, failures))
        for rank in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(SECONDS)
    alive = [worker for worker in workers if worker.is_alive()]
    for worker in alive:
        worker.kill()
    assert not alive and all(worker.exitcode == 0 for worker in workers), "\n".join(_drain(failures)) or "hangs"


def launcher_environment(config: str, processes: int) -> dict[str, str]:
    """Return the variables that `accelerate launch` sets, without ranks."""
    known = dict(os.environ)
    path = ROOT / "accelerate_configs" / f"{config}.yaml"
    arguments: argparse.Namespace = launch.launch_command_parser().parse_args(
        ["--config_file", str(path), "--num_processes", str(processes), "--main_process_port", str(free_port()), "x.py"]
    )
    arguments, defaults, _ = launch._validate_launch_command(arguments)
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, environment = prepare_deepspeed_cmd_env(arguments)
    else:
        environment = prepare_multi_gpu_env(arguments)
    added = {name: value for name, value in environment.items() if known.get(name) != value}
    return {**added, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(arguments.main_process_port)}


def cut_back(run_dir: Path) -> None:
    """Change a finished run to one that was killed after its first checkpoint. Keep the saved weights as `whole`."""
    manifest = read_manifest(run_dir)
    (run_dir / manifest.artifact).rename(run_dir / "whole")
    complete, _ = complete_checkpoints(run_dir)
    assert len(complete) > 1
    for later in complete[1:]:
        shutil.rmtree(later)
    manifest.state = "running"
    write_manifest(run_dir, manifest)


def _work(
    rank: int, processes: int, environment: dict[str, str], jobs: list[Job], prepare: Any, failures: Queue[str]
) -> None:
    os.environ |= environment
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "TORCH_EXTENSIONS_DIR": str(EXTENSIONS)}
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        for recipe, overrides, how in jobs:
            _train(recipe, overrides, how, rank, prepare)
    except BaseException:
        failures.put(f"process {rank}: {traceback.format_exc()}")
        failures.close()
        failures.join_thread()
        os._exit(1)


def _train(recipe: str, overrides: list[str], how: How, rank: int, prepare: Any) -> None:
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    if prepare is not None:
        prepare()
    loaded = load_recipe(recipe, overrides)
    if how == "cut back and resume":
        if rank == 0:
            cut_back(loaded.run_dir)
        PartialState().wait_for_everyone()
    with suppress(Interrupted):
        train(loaded, resume=how != "start")
    AcceleratorState._reset_state()  # what one process holds of one training


def _drain(failures: Queue[str]) -> list[str]:
    found = []
    while not failures.empty():
        found.append(failures.get())
    return found
