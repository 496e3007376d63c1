"""`qdsft export-gguf`: export a run as a file for llama.cpp and Ollama."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from qdsft.cli.arguments import add_trust
from qdsft.console import print_result, say
from qdsft.optional_packages import install_command


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export-gguf` to the commands."""
    export = commands.add_parser(
        "export-gguf",
        help="write a whole model as a GGUF file for llama.cpp and Ollama",
        description="Convert a run's model with llama.cpp's own script, check the file, and write an Ollama Modelfile "
        "beside it.",
    )
    export.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory, or what qdsft merge wrote")
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="a new file, such as model.gguf")
    export.add_argument(
        "--type",
        choices=("f16", "bf16", "f32", "q8_0"),
        default="f16",
        dest="kind",
        help="dtype of the weights (f16)",
    )
    export.add_argument(
        "--converter", type=Path, metavar="FILE", help="convert_hf_to_gguf.py in a checkout of llama.cpp (required)"
    )
    export.add_argument(
        "--check-answers", action="store_true", help="compare greedy answers to the golden prompts with the run's"
    )
    add_trust(export)
    export.set_defaults(handler=_export)


def _export(options: argparse.Namespace) -> int:
    from qdsft.runs.manifest import read_finished

    manifest = read_finished(options.run_dir)
    from qdsft.deploy.gguf.export import export_gguf

    found = export_gguf(
        options.run_dir,
        options.output,
        kind=options.kind,
        converter=options.converter,
        answers=options.check_answers,
        manifest=manifest,
        trust_remote_code=options.trust_remote_code,
    )
    checked = f"{found.prompts} golden prompts have their trained token ids in llama.cpp"
    if found.prompts is None:
        checked = f"token ids NOT checked with llama.cpp ({install_command('gguf')})"
    if found.equal is not None:
        checked += f", and {found.equal} of {found.prompts} greedy answers are the run's"
    print_result(f"{options.output}: {options.kind}, {found.tensors} tensors, {checked}")
    say(f"next: ollama create NAME -f {shlex.quote(str(found.modelfile))}")
    return 0
