"""The command line. A handler imports what its command needs when it runs, so that light commands start fast."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import qdsft
from qdsft.cli import (
    certify,
    check,
    compare,
    data,
    decompose,
    demo,
    doctor,
    evaluate,
    export_gguf,
    improve,
    inspect,
    merge,
    plan,
    preflight,
    push,
    recipe,
    runs,
    serve,
    train,
)
from qdsft.console import end_progress, print_error, quiet_libraries, say, standard_output, visible
from qdsft.errors import UserError
from qdsft.launch import check_environment
from qdsft.parent_death import follow_launcher

RECIPE_COMMANDS = ("recipe", "check", "inspect", "plan", "preflight", "train")
CONFIG_OPTIONS = ("-c", "--config", "--config-file", "--config_file", "--recipe", "--yaml")


class _Parser(argparse.ArgumentParser):
    """A parser whose messages show control characters of the arguments as escapes."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 success, 1 a user error, 2 wrong usage, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    quiet_libraries()
    parser = build_parser()
    # `qdsft serve` passes the arguments after -- to its engine.
    given, engine_arguments = serve.split(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in RECIPE_COMMANDS and (file := _option_value(given, CONFIG_OPTIONS)):
        parser.error(f"give the recipe without an option: qdsft {given[0]} {file}")
    options, rest = parser.parse_known_args(given)
    options.extra = engine_arguments
    if unknown := _assign_positionals(options, rest):
        hint = _hint(unknown, given) if hasattr(options, "overrides") else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    handler: Callable[[argparse.Namespace], int] = options.handler
    try:
        follow_launcher()
        check_environment()
        status = handler(options)
        _flush()
        return status
    except UserError as error:
        print_error(error)
        return 1
    except MemoryError:
        end_progress()
        print("error: out of memory; close other programs, or use fewer rows or a smaller model", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        end_progress()
        say("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _flush() -> None:
    """Flush standard output while errors of a full disk or a closed pipe are still handled."""
    if sys.stdout is None:  # closed by the caller
        return
    with standard_output():
        sys.stdout.flush()


def _assign_positionals(options: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Assign positional arguments that argparse did not accept after an option; return the unknown arguments."""
    unknown = []
    for item in rest:
        if not item.startswith("-") and "=" in item and hasattr(options, "overrides"):
            options.overrides.append(item)
        elif not item.startswith("-") and getattr(options, "question", item) is None:
            options.question = item
        elif not item.startswith("-") and getattr(options, "run_dir", item) is None:
            options.run_dir = Path(item)
        elif not item.startswith("-") and hasattr(options, "others"):
            options.others.append(Path(item))
        else:
            unknown.append(item)
    return unknown


def _hint(unknown: Sequence[str], given: Sequence[str]) -> str:
    """Return what to write instead of the options of other tools, as the end of a sentence; "" if that is unknown."""
    from qdsft.recipe.schema import find_key, reserved_reason

    overrides = []
    for item in (item for item in unknown if item.startswith("-")):
        option = item.partition("=")[0]
        name = option.lstrip("-").replace("-", "_")
        if name in {"num_processes", "nproc_per_node", "num_gpus", "gpus"}:
            return "; for several GPUs write --accelerate ddp (or zero2, zero3, fsdp2)"
        if name == "resume_from_checkpoint":
            return "; write --resume"
        if reason := reserved_reason(name):
            return f"; {name} is not set: {reason}"
        if (key := find_key(name)) is not None:
            plain = key.replace("_", "").replace(".", "").isalnum()
            overrides.append(f"{key}={_option_value(given, (option,)) or 'VALUE'}" if plain else key)
    return f"; a recipe's values are written as {', '.join(overrides)}" if overrides else ""


def _option_value(given: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the value of the first of these options, after a space or "="; None without one."""
    for item, following in zip(given, [*given[1:], ""], strict=True):
        name, equals, value = item.partition("=")
        if name in names and (equals or not following.startswith("-")):
            return (value if equals else following) or None
    return None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(prog="qdsft", description=qdsft.__doc__)
    parser.add_argument("--version", action="version", version=f"qdsft {qdsft.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (recipe, check, inspect, plan, preflight, train, evaluate, compare, decompose, merge, push, runs):
        command.add_commands(commands)
    for command in (improve, demo, serve, certify, export_gguf, data, doctor):
        command.add_commands(commands)
    return parser
