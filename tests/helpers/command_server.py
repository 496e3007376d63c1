"""`python`, `qdsft` and `accelerate` without their ten seconds of imports: one process imports everything once and
forks for each command. Programs of these names in a folder hand over arguments, folder, environment, files and signals,
so that a shell, a script or `subprocess` uses them like the real ones.

Differences from a separate process: environment variables that libraries read when they are imported (HF_HOME,
OMP_NUM_THREADS) are those of the server.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import json
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = (
    *("torch", "transformers", "trl", "peft", "datasets", "accelerate.commands.accelerate_cli", "bitsandbytes"),
    *("torch._dynamo", "torch.distributed.run", "matplotlib.pyplot", "torch.utils.tensorboard", "sacrebleu"),
    *("transformers.models.llama.modeling_llama", "transformers.models.mistral.modeling_mistral"),
    *(
        "qdsft.cli.main",
        "qdsft.training.train",
        "qdsft.training.preflight",
        "qdsft.inference.evaluate",
        "qdsft.inference.decomposer",
        "qdsft.deploy.merge",
    ),
)
PYTHON = ("python", "python3")
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys

name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
if name in {names} and (not arguments or arguments[0].startswith("-") and arguments[0] not in ("-", "-c", "-m")):
    os.execv({python!r}, [{python!r}, *arguments])
handed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
request = {{
    "program": name,
    "arguments": arguments,
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "ignored": [number for number in handed_on if signal.getsignal(number) == signal.SIG_IGN],
}}
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"+"], [0, 1, 2])
server.sendall(json.dumps(request).encode() + b"\\n")
answers = server.makefile()
pid = int(answers.readline())
for number in set(handed_on) - set(request["ignored"]):
    signal.signal(number, lambda number, _: os.kill(pid, number))
status = int(answers.readline())
if status < 0:
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


class CommandServer:
    """Start the server, and write its programs to `folder`."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qdsft-commands-"))
        address = self.folder / "socket"
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(address), str(self.folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        atexit.register(self.close)
        client = self.folder / "client"
        client.write_text(CLIENT.format(python=sys.executable, names=PYTHON, address=str(address)), encoding="utf-8")
        client.chmod(0o755)
        for name in (*PYTHON, "qdsft", "accelerate", "torchrun"):
            (self.folder / name).symlink_to("client")
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "the command server did not start"
        self.python = str(self.folder / "python")

    def close(self) -> None:
        """End the server. Running commands are not ended."""
        atexit.unregister(self.close)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def _serve(address: str, folder: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    for name in PRELOADED:
        __import__(name)
    sys.executable = str(Path(folder) / "python")  # the interpreter that a command starts
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who serves a client is waited for by nobody
    os.write(1, b"ready\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    while True:
        ready, _, _ = select.select([listener.fileno(), 0], [], [])
        if 0 in ready:  # whoever started the server is gone
            return
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _serve_client(client)
            os._exit(0)
        client.close()


def _serve_client(client: socket.socket) -> None:
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    request = json.loads(client.makefile().readline())
    pid = os.fork()
    if pid == 0:
        client.close()
        _run(request, files)
    for file in files:
        os.close(file)
    client.sendall(b"%d\n" % pid)
    while True:
        gone, state = os.waitpid(pid, os.WNOHANG)
        if gone:
            client.sendall(b"%d\n" % os.waitstatus_to_exitcode(state))
            return
        if select.select([client], [], [], 0.004)[0]:  # the client says no more: it was killed
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return


def _run(request: dict[str, Any], files: Sequence[int]) -> None:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in request["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        _open_streams()
        random.seed()
        _execute(request["program"], request["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def _open_streams() -> None:
    """Set up standard input and output as a starting interpreter does, for the client's files."""
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        for number, mode, buffering, errors in ((0, "r", -1, None), (1, "w", -1, None), (2, "w", 1, "backslashreplace"))
    )


def _execute(program: str, arguments: list[str]) -> None:
    added = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place and place not in sys.path]
    if program not in PYTHON:
        sys.path[:0] = added
        sys.argv = [program, *arguments]
        [entry] = importlib.metadata.entry_points(group="console_scripts", name=program)
        sys.exit(entry.load()())
    kind, *rest = arguments
    # What -m and -c begin with; runpy puts a script's own folder first.
    sys.path[:0] = [os.getcwd() if kind == "-m" else "", *added] if kind.startswith("-") else added
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind in {"-", "-c"}:
        code = sys.stdin.read() if kind == "-" else rest.pop(0)
        sys.argv = [kind, *rest]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(kind).resolve().parent))
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    _serve(*sys.argv[1:])
