"""Print a plan as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from qdsft.planning.peak import GIB, Peak
from qdsft.planning.plan import Plan


def report(plan: Plan) -> Iterator[str]:
    """Yield lines for a terminal, with memory in GiB."""
    target, setup = plan.target, plan.setup
    what = f"{target.count} x " if target.count > 1 else ""
    where = f"{what}{target.name or 'a GPU'} of {_gib(target.memory)} GiB"
    sharding = f", {target.sharding}" if target.sharding else ""
    yield f"{plan.recipe.path}: {plan.recipe.model.name_or_path}, {plan.parameters / 1e9:.2f} B weights"
    yield f"on {where}{sharding}; all figures are estimates, in GiB on each GPU"
    yield ""
    rows = "packed row" if plan.recipe.shares_rows else "row"
    yield f"training, {setup.micro_batch} {rows}{'s' * (setup.micro_batch > 1)} of {setup.length} tokens at a time"
    chosen = ", chosen for this memory" if setup.adaptive else ""
    yield f"  recomputation: {setup.way.describe()}{chosen}"
    yield from _peak(plan.training, target.memory)
    yield ""
    evaluation = plan.recipe.evaluation
    yield f"evaluation, {evaluation.batch_size} rows at a time, {evaluation.max_new_tokens} new tokens"
    yield from _peak(plan.evaluation, target.memory)
    yield ""
    saving, what = plan.saving, "adapter" if plan.recipe.lora is not None else "model"
    yield (
        f"saving: on disk up to {_gib(saving.disk)}: the {what}, {_gib(saving.result)}, and {saving.kept} "
        f"checkpoint(s) of {_gib(saving.checkpoint)}"
    )
    if plan.steps is None:
        yield f"steps and tokens: not known: {plan.workload_note}"
    else:
        yield f"steps: about {plan.steps}, tokens: about {plan.tokens_seen:,} ({plan.workload_note})"
    if plan.not_counted:
        yield f"not counted, although they change memory: {', '.join(plan.not_counted)}"
    yield ""
    yield from _verdict(plan)


def _peak(peak: Peak, memory: int) -> Iterator[str]:
    for name, size in peak.components.items():
        yield f"  {name:<30}{_gib(size):>8}"
    left = memory - peak.total
    margin = f"{_gib(left)} to spare" if left >= 0 else f"{_gib(-left)} too much"
    yield f"  {'peak, at: ' + peak.phase:<38}{_gib(peak.total):>8}   {margin}"
    others = [f"{name} {_gib(size)}" for name, size in peak.phases.items() if name != peak.phase]
    yield f"  at other moments: {', '.join(others)}"
    yield f"  allocated by PyTorch {_gib(peak.allocated)}, reserved {_gib(peak.reserved)}"
    if peak.paged:
        yield f"  and {_gib(peak.paged)} of optimizer states that move to host memory when the GPU is full"


def _verdict(plan: Plan) -> Iterator[str]:
    if plan.fits:
        tight = ", which is tight: a display or fragmentation may take it" if plan.tight else ""
        yield f"fits, with {_gib(plan.target.memory - plan.total)} GiB to spare{tight}"
    else:
        if plan.target.sharding == "DDP" and plan.recipe.lora is None:
            yield f"does not fit: each GPU holds the whole model; try --gpus {plan.target.count} --zero 3 first"
        yield "does not fit; apply these changes in order until it does:"
        for change in plan.changes:
            after = "fits" if change.fits else "still too much"
            yield f"  {shlex.join(change.overrides)}   ({change.why}; then {_gib(change.total)}: {after})"
        if not plan.changes or not plan.changes[-1].fits:
            yield f"  {_last_resort(plan)}"
    if plan.largest_length and plan.largest_micro_batch:
        yield (
            f"largest that trains: {plan.setup.micro_batch} x {plan.largest_length} tokens, "
            f"or {plan.largest_micro_batch} x {plan.setup.length}"
        )


def _last_resort(plan: Plan) -> str:
    target = plan.target
    if plan.recipe.lora is None and target.count > 1 and not target.shards_weights:
        return "--zero 3 shards the weights as well; otherwise use a larger GPU, or a smaller model"
    return "no more changes are known: use a larger GPU, more GPUs (--gpus N --zero 3), or a smaller model"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"
