# /// script
# requires-python = ">=3.11,<3.15"
# dependencies = ["qdsft @ git+https://github.com/OWNER/qdsft", "torch==2.13.0"]
# ///
"""Train a recipe as one job of Hugging Face Jobs: plan it for this GPU, train, evaluate, and push to the Hub.

    hf jobs uv run --flavor l4x1 --timeout 6h --secrets HF_TOKEN examples/hf_job.py \\
        qwen3_4b/qlora_8gb --push-to user/name data.train=user/questions

The disk of a job is deleted when it ends. With training.output_dir in a bucket (--volume hf://buckets/user/runs:/runs),
a second attempt (--attempts 2) resumes from the newest checkpoint. docs/CLOUD.md has the details.
"""

from __future__ import annotations

import argparse
import os
import sys

import torch

import qdsft
from qdsft.cli import main as command
from qdsft.errors import UserError
from qdsft.runs.directory import run_state


def main() -> int:
    """Return the status of the first command that fails, or 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", help="a shipped recipe, such as qwen3_4b/qlora_8gb, or a file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="data.train is a dataset on the Hub")
    parser.add_argument("--push-to", metavar="USER/NAME", help="repository for the result; requires HF_TOKEN")
    options = parser.parse_intermixed_args()
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one process trains on one GPU
    publish = [f"publish.hub_model_id={options.push_to}"] if options.push_to else []
    arguments = [options.recipe, *options.overrides, *publish]  # training checks first that it may push there
    try:
        recipe = qdsft.load_recipe(options.recipe, arguments[1:])
    except UserError as error:
        parser.exit(1, f"error: {error}\n")
    run_dir, begun = str(recipe.run_dir), run_state(recipe.run_dir)
    commands = []
    if begun == "none" and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        commands.append(["plan", *arguments, "--gpu-memory", f"{memory:.2f}", "--must-fit"])
    if begun != "finished":
        commands.append(["train", *arguments, *(["--resume"] if begun == "begun" else [])])
    commands.append(["evaluate", run_dir])
    if options.push_to:
        commands.append(["push", run_dir, "--repo-id", options.push_to])
    return next((status for one in commands if (status := command(one))), 0)


if __name__ == "__main__":
    sys.exit(main())
