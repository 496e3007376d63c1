"""`qdsft plan`: the GPU memory that a recipe needs, without running it."""

from __future__ import annotations

import argparse
import logging

from qdsft.cli.arguments import gib, positive
from qdsft.console import print_result
from qdsft.errors import UserError
from qdsft.strict_json import to_json


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `plan` to the commands."""
    plan = commands.add_parser(
        "plan", help="estimate the peak GPU memory of a recipe, and list changes if it does not fit"
    )
    plan.add_argument("recipe", metavar="RECIPE", help="a YAML file, such as recipes/tiny/full.yaml")
    plan.add_argument("overrides", nargs="*", metavar="section.key=value", help="override values of the recipe")
    plan.add_argument("--gpu-memory", type=gib, metavar="GIB", help="memory of one GPU in GiB (default: 8)")
    plan.add_argument("--gpu", metavar="NAME", help="a GPU by name, such as 'RTX 4060', or as nvidia-smi prints it")
    plan.add_argument("--gpus", type=positive, default=1, metavar="N", help="number of GPUs (default: 1)")
    plan.add_argument(
        "--zero", type=int, choices=(0, 1, 2, 3), default=0, help="DeepSpeed ZeRO stage (default: 0, no ZeRO)"
    )
    plan.add_argument("--fsdp", action="store_true", help="shard with PyTorch's FSDP2")
    plan.add_argument(
        "--offload", action="store_true", help="keep what --zero or --fsdp shards in the machine's memory"
    )
    plan.add_argument(
        "--full", action="store_true", help="trace every layer of the model instead of a few: about ten times slower"
    )
    plan.add_argument("--must-fit", action="store_true", help="exit with status 1 if the recipe does not fit")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON, in bytes")
    plan.set_defaults(handler=_plan)


def _plan(options: argparse.Namespace) -> int:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports missing CPU kernels when it is imported
    from qdsft.training.plan import plan

    found = plan(
        options.recipe,
        options.overrides,
        gpu=options.gpu,
        gpu_memory=options.gpu_memory,
        gpus=options.gpus,
        zero=options.zero,
        fsdp=options.fsdp,
        offload=options.offload,
        full=options.full,
    )
    if options.json:
        print_result(to_json(found.to_json(), indent=2))
    else:
        from qdsft.planning.table import report

        for line in report(found):
            print_result(line)
    if options.must_fit and not found.fits:
        gpus = f"{found.target.count} GPUs" if found.target.count > 1 else "a GPU"
        memory = f"{found.target.memory / 2**30:.4g} GiB{' each' if found.target.count > 1 else ''}"
        raise UserError(f"{options.recipe} does not fit {gpus} of {memory}; add the overrides that the plan lists")
    return 0
