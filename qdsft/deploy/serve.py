"""Serve a run with an existing OpenAI-compatible server, with the prompt and stop tokens it was trained on."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from qdsft.console import say
from qdsft.deploy.chat_rules import DECOMPOSITION, Answers, ChatRules
from qdsft.deploy.guarded_server import ANY_HOST, BATCHES, FIXED, HOSTS, TOKEN
from qdsft.deploy.listening import LOCAL_NAMES, listen, reachable, refuse_open_server
from qdsft.deploy.served_folder import merge_command, served_name, stage
from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.inference import vllm_engine
from qdsft.inference.loaded_run import RunPrompts, check_weight_files, load_prompts
from qdsft.model.attention import decoding_attention
from qdsft.model.device import find_machine
from qdsft.optional_packages import require
from qdsft.runs.manifest import Manifest

NEEDED = ("fastapi", "uvicorn", "openai")
"""Imported by `transformers serve`, but not installed with transformers."""
SECONDS_TO_STOP = 20


def serve(
    run_dir: Path,
    *,
    engine: str,
    host: str,
    port: int,
    extra: Sequence[str] = (),
    answers: Answers | None = None,
    manifest: Manifest | None = None,
    trust_remote_code: bool = False,
) -> int:
    """Serve a run until the server ends or is stopped. `engine` is transformers or vllm, `extra` goes to the engine.

    Raises UserError for a run that the engine cannot serve, a port in use, a missing package, a server that fails, and
    as `load_prompts` does.
    """
    with listen(host, port) as listener:  # the server itself fails only after it has loaded the model
        is_local = ip_address(listener.getsockname()[0]).is_loopback
    if trust_remote_code:
        refuse_open_server(is_open=not is_local)
    run = load_prompts(run_dir, manifest, trust_remote_code=trust_remote_code)
    answers = answers or Answers()
    if engine == "transformers":
        _check_transformers(run)
        if answers != Answers():
            ChatRules(run, answers, fixed=FIXED if BATCHES in extra else "")
    elif answers != Answers():
        raise UserError("--constrained and --only-decompositions require --engine transformers; leave them out")
    token = _token(is_local)
    name = served_name(run_dir)
    with tempfile.TemporaryDirectory(prefix="qdsft-serve-") as above:
        stage(run, Path(above) / name)
        if engine == "transformers":
            command = transformers_command(run, Path(above) / name, host, port, extra, answers)
        else:
            command = vllm_command(run, Path(above) / name, host, port, extra)
        check_weight_files(run)
        say(f"starting: {shlex.join(command)}")
        say(f"when it is up, ask a question with:\n{curl(run, name, host, port, token)}")
        status = _run(command, Path(above) if engine == "transformers" else None, _guard(host, token, is_local))
    if status:
        raise UserError(f"{run_dir}: the server ended with status {status}; its messages are above")
    return 0


def make_request(
    run_dir: Path,
    question: str,
    manifest: Manifest | None = None,
    *,
    constrained: bool = False,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Return the request that asks a served run as `qdsft decompose` does; raises UserError likewise.

    `constrained` asks for the answer of `--constrained`, which transformers' server gives.
    """
    run = load_prompts(run_dir, manifest, trust_remote_code=trust_remote_code)
    body = _body(run, served_name(run_dir), run.task.messages(run.task.typed_record(question)))
    run.encode([body["messages"]])  # raises for text that a server would encode otherwise than in training
    if constrained:
        run.task.require_decompositions("--constrained", run_dir)
        body["response_format"] = DECOMPOSITION
    return body


def _token(is_local: bool) -> str:
    """Return the token that clients need; "" for none. A server that other machines can reach always has one."""
    if token := variable(TOKEN):
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise UserError(f"{TOKEN}: a token has letters, digits and signs of ASCII alone; set another one")
        return token
    if is_local:
        return ""
    token = secrets.token_urlsafe(24)
    say(f"every request to this server needs this token, made for this start ({TOKEN} sets one): {token}")
    return token


def _guard(host: str, token: str, is_local: bool) -> dict[str, str]:
    """Return the environment variables that tell the server which requests to take."""
    hosts = ",".join([*LOCAL_NAMES, host.lower()]) if is_local else ANY_HOST
    return {HOSTS: hosts, TOKEN: token, "VLLM_API_KEY": token}


def curl(run: RunPrompts, name: str, host: str, port: int, token: str = "") -> str:
    """Return a curl command that asks the run's first golden prompt."""
    body = json.dumps(_body(run, name, run.manifest.golden_prompts[0].messages), ensure_ascii=False)
    authorization = "" if not token else f" -H {shlex.quote(f'Authorization: Bearer {token}')}"
    address = f"http://{reachable(host)}:{port}/v1/chat/completions"
    return f"curl {address} -H 'Content-Type: application/json'{authorization} -d {shlex.quote(body)}"


def transformers_command(
    run: RunPrompts, staged: Path, host: str, port: int, extra: Sequence[str], answers: Answers
) -> list[str]:
    """Return the command, to be run in the parent folder of `staged`: the model's name is its path from there."""
    machine = find_machine()
    command = [sys.executable, "-m", "qdsft.deploy.guarded_server", str(run.run_dir.resolve())]
    command += ["--constrained"] * answers.constrained + ["--only-decompositions"] * answers.only_decompositions
    command += ["--", staged.name]
    command += ["--host", host, "--port", str(port), "--device", machine.device_type]
    command += ["--dtype", str(machine.choose_dtype(run.recipe.model.dtype)).removeprefix("torch.")]
    if kernel := decoding_attention(run.recipe.model.attn_implementation):
        command += ["--attn-implementation", kernel]
    if run.recipe.model.trust_remote_code:
        command += ["--trust-remote-code"]
    return [*command, "--log-level", "error", *extra]


def vllm_command(run: RunPrompts, staged: Path, host: str, port: int, extra: Sequence[str]) -> list[str]:
    """Return a `vllm serve` command with the settings of `qdsft decompose --engine vllm`.

    Experimental: this command was never run with vLLM. Raises UserError for an adapter that vLLM cannot serve, and
    without vLLM.
    """
    asked = vllm_engine.make_request(run, [], otherwise=merge_command(run.run_dir, "serve"))
    options = {**asked.engine, "tokenizer": str(staged), "generation_config": str(staged)}
    model = options.pop("model") if asked.adapter else str(staged)
    options.pop("model", None)
    options |= {"host": host, "port": port, "chat_template": str(staged / "chat_template.jinja")}
    options["chat_template_content_format"] = "string"
    # Greedy unless a request sets a temperature. generation_config.json has the stop tokens and the length.
    options["override_generation_config"] = json.dumps({"temperature": 0.0})
    if asked.adapter:
        options["lora_modules"] = f"{staged.name}={asked.adapter['lora_path']}"
    else:
        options["served_model_name"] = staged.name
    return [_vllm(), "serve", model, *_flags(options), *extra]


def _flags(options: dict[str, Any]) -> list[str]:
    flags = []
    for key, value in options.items():
        flag = f"--{key.replace('_', '-')}"
        if value is True:
            flags += [flag]
        elif value is not None and value is not False:
            flags += [flag, str(value)]
    return flags


def _body(run: RunPrompts, name: str, messages: Sequence[dict[str, str]]) -> dict[str, Any]:
    return {"model": name, "messages": list(messages), "temperature": 0, "max_tokens": run.max_new_tokens}


def _check_transformers(run: RunPrompts) -> None:
    if run.manifest.artifact == "adapter":
        raise UserError(
            f"{run.run_dir}: transformers serve cannot load an adapter; {merge_command(run.run_dir, 'serve')}; or use "
            "--engine vllm"
        )
    require("serve", "qdsft serve", *NEEDED)


def _vllm() -> str:
    """Return the vllm command of this environment, or else of the PATH."""
    beside = Path(sys.executable).parent / "vllm"
    found = str(beside) if beside.is_file() else shutil.which("vllm")
    if found is None:
        vllm_engine.check_installed()
        raise UserError("--engine vllm requires the command vllm; put it on the PATH")
    return found


def _run(command: Sequence[str], folder: Path | None, guard: dict[str, str]) -> int:
    """Run a server, in `folder` if given, and return its exit status. Interrupting this process stops the server."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    environment = {**os.environ, **guard}
    environment["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"  # no network request at every start
    environment["PYTHONSAFEPATH"] = "1"  # the files of a run in `folder` are no modules
    environment = {name: value for name, value in environment.items() if value or name not in guard}
    before = signal.signal(signal.SIGTERM, stop)
    server = None
    try:
        server = subprocess.Popen(command, cwd=folder, env=environment)
        return server.wait()
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be started: {error.strerror}; install it again") from error
    finally:
        signal.signal(signal.SIGTERM, before)
        if server is not None and server.poll() is None:
            _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
