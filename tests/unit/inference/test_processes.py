"""Processes of one launch share rows, and every process gets all results or the same error."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.queues import Queue
from typing import Any

import pytest
from helpers.gpus import pretend_gpus
from helpers.ports import free_port
from torch import distributed

from qdsft.errors import UserError
from qdsft.inference.processes import Processes, launched


def work_of(rank: int) -> str:
    return f"of {rank}"


def fail_in_the_second(rank: int) -> str:
    if rank == 1:
        raise UserError("planted")
    return work_of(rank)


def fail_in_all(rank: int) -> str:
    raise UserError(f"planted in {rank}")


def end_early(rank: int) -> str:
    if rank == 1:
        os._exit(3)
    return work_of(rank)


def run(rank: int, port: int, work: Callable[[int], str], said: Queue[Any]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    try:
        with launched() as processes:
            said.put((rank, list(processes.share(5)), processes.gather(lambda: work(rank))))
    except UserError as error:
        said.put((rank, None, str(error)))


def answers_of_two(work: Callable[[int], str], expected: int = 2) -> dict[int, Any]:
    context = multiprocessing.get_context("spawn")
    said: Queue[Any] = context.Queue()
    port = free_port()
    processes = [context.Process(target=run, args=(rank, port, work, said)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [said.get(timeout=120) for _ in range(expected)]
    for process in processes:
        process.join(60)
    return {rank: rest for rank, *rest in found}


def test_one_process_does_all_of_it() -> None:
    with launched() as processes:
        assert processes.is_main and list(processes.share(3)) == [0, 1, 2]
        assert processes.gather(lambda: 7) == [7]
        with pytest.raises(UserError, match="planted"):
            processes.gather(lambda: fail_in_all(0))


def test_rows_are_shared_without_a_rest() -> None:
    shares = [list(Processes(rank, 3).share(8)) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == list(range(8))


def test_results_come_in_the_order_of_the_ranks() -> None:
    assert answers_of_two(work_of) == {0: [[0, 2, 4], ["of 0", "of 1"]], 1: [[1, 3], ["of 0", "of 1"]]}


@pytest.mark.slow
def test_an_error_of_any_process_is_raised_in_all() -> None:
    assert answers_of_two(fail_in_the_second) == {rank: [None, "process 1 of 2: planted"] for rank in range(2)}
    assert answers_of_two(fail_in_all) == {rank: [None, "planted in 0"] for rank in range(2)}


def test_a_process_that_ends_early_is_noticed() -> None:
    found = answers_of_two(end_early, expected=1)
    assert "another process of this launch ended early" in found[0][1]


def test_processes_that_cannot_connect_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "no port"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="the 2 processes of WORLD_SIZE cannot connect"), launched():
        raise AssertionError


def test_each_process_selects_its_gpu_before_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = pretend_gpus(monkeypatch, count=2)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")

    def connect(*_: Any, **__: Any) -> None:
        assert ("set_device", 1) in gpus.calls
        raise RuntimeError("planted")

    monkeypatch.setattr(distributed, "init_process_group", connect)
    with pytest.raises(UserError, match="planted"), launched():
        pass
