"""`qdsft data check` and `qdsft data stats`."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from qdsft.console import print_result, say

if TYPE_CHECKING:
    from qdsft.data.checks.check_files import Inputs
    from qdsft.data.checks.problems import Problem, Tally
    from qdsft.data.checks.stats import Stats

SHOWN = 20
"""Problems of one kind that are printed without --all."""

MANY_STEPS = 12
"""Rows with more steps share one bar."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check` and `stats` under `data`."""
    from qdsft.data.formats import READERS

    check = commands.add_parser("check", help="report every unusable and every odd row of data files")
    check.add_argument("files", nargs="*", type=Path, metavar="FILE")
    check.add_argument("--recipe", metavar="R", help="check for this recipe's task; without FILE, check its data")
    check.add_argument("--eval", type=Path, metavar="FILE", help="held-out rows to compare the others with")
    check.add_argument("--from", dest="source_format", choices=READERS, default="jsonl", help="the format of the files")
    check.add_argument("--strict", action="store_true", help="exit with status 1 for warnings, too")
    check.add_argument("--json", action="store_true", help="print everything as one JSON document")
    check.add_argument("--all", action="store_true", help=f"print every problem, not {SHOWN} of a kind")
    check.add_argument("--write-clean", type=Path, metavar="OUT", help="write the usable rows as JSON Lines")
    check.set_defaults(handler=_check, usage_error=check.error)

    stats = commands.add_parser("stats", help="count rows, steps, lengths, scripts and reference shapes")
    stats.add_argument("files", nargs="+", type=Path, metavar="FILE")
    stats.add_argument("--from", dest="source_format", choices=READERS, default="jsonl", help="the format of the files")
    stats.add_argument("--json", action="store_true", help="print one JSON document")
    stats.add_argument("--picture", type=Path, metavar="OUT", help="draw the counts to a .png or .svg file, too")
    stats.set_defaults(handler=_stats)


def _check(options: argparse.Namespace) -> int:
    from qdsft.data.checks.check_files import check_files
    from qdsft.data.checks.clean_rows import CleanRows, check_target
    from qdsft.data.checks.problems import Tally
    from qdsft.errors import UserError
    from qdsft.files import new_text_file

    started = time.perf_counter()
    tally = Tally()
    inputs = _inputs(options, tally)
    clean = None
    with ExitStack() as stack:
        if options.write_clean is not None:
            check_target(options.write_clean, [*inputs.train, *([inputs.eval] if inputs.eval else [])])
            clean = CleanRows(stack.enter_context(new_text_file(options.write_clean)).write)
        problems = check_files(inputs, tally, clean or (lambda row: None))

        def elapsed() -> float:
            return round(time.perf_counter() - started, 2)

        if options.json:
            _print_json(problems, tally, elapsed)
        else:
            _print_text(problems, tally, elapsed, None if options.all else SHOWN)
        if clean is not None and not clean.written:
            raise UserError(f"{options.write_clean} is not written: no row is usable")
    if clean is not None:
        say(f"{options.write_clean}: {clean.summary()}")
    return 1 if tally.failed(options.strict) else 0


def _inputs(options: argparse.Namespace, tally: Tally) -> Inputs:
    from qdsft.data.checks.check_files import Inputs, recipe_inputs
    from qdsft.data.formats import READERS
    from qdsft.recipe import load_recipe

    if not options.files and options.recipe is None:
        options.usage_error("name a FILE, or a recipe with --recipe")
    read = READERS[options.source_format].read
    recipe = load_recipe(options.recipe) if options.recipe is not None else None
    if options.files or recipe is None:
        return Inputs(tuple(options.files), options.eval, recipe, read)
    return recipe_inputs(recipe, options.eval, read, tally)


def _print_text(problems: Iterable[Problem], tally: Tally, elapsed: Callable[[], float], limit: int | None) -> None:
    """Print a line for each problem, at most `limit` of a kind, then the counts."""
    shown: Counter[tuple[str, str]] = Counter()
    for problem in problems:
        kind = (problem.level, problem.kind)
        if limit is None or shown[kind] < limit:
            shown[kind] += 1
            print_result(f"{problem.source}: {problem.level}: {problem.message}")
    if tally.counts:
        print_result(f"\n{'':<8} {'kind':<28} {'count':>9}")
    for kind, count in sorted(tally.counts.items(), key=lambda item: (item[0][0], -item[1])):
        more = f"  {count - shown[kind]} more than shown; --all shows them" if count > shown[kind] else ""
        print_result(f"{kind[0]:<8} {kind[1]:<28} {count:>9}{more}")
    print_result(f"\n{'rows':<18} {tally.total:>9}")
    for name, count in (("clean", tally.clean), ("unusable", tally.unusable), ("with warnings", tally.warned)):
        share = f"  {count / tally.total:.1%}" if tally.total else ""
        print_result(f"{name:<18} {count:>9}{share}")
    print_result(f"{'seconds':<18} {elapsed():>9.2f}")
    for note in tally.notes:
        print_result(note)


def _print_json(problems: Iterable[Problem], tally: Tally, elapsed: Callable[[], float]) -> None:
    """Print one document, problem by problem, so that a million of them take no memory."""
    separator = ""
    print_result('{"problems": [', end="")
    for problem in problems:
        print_result(f"{separator}\n{json.dumps(asdict(problem), ensure_ascii=False, allow_nan=False)}", end="")
        separator = ","
    counts: dict[str, dict[str, int]] = {"error": {}, "warning": {}}
    for (level, kind), count in tally.counts.most_common():
        counts[level][kind] = count
    rows = {"total": tally.total, "clean": tally.clean, "unusable": tally.unusable, "with_warnings": tally.warned}
    rest = {"counts": counts, "rows": rows, "notes": tally.notes, "seconds": elapsed()}
    print_result("\n], " + json.dumps(rest, ensure_ascii=False, allow_nan=False)[1:])


def _stats(options: argparse.Namespace) -> int:
    from itertools import chain

    from qdsft.data.checks.stats import count_rows
    from qdsft.data.formats import READERS

    stats = count_rows(chain.from_iterable(map(READERS[options.source_format].read, options.files)))
    if options.picture is not None:
        from qdsft.data.checks.plot import plot_stats

        plot_stats(stats, options.picture)
    if options.json:
        print_result(json.dumps(stats.to_json(), ensure_ascii=False, allow_nan=False, indent=2))
    else:
        _print_stats(stats)
    return 0


def _print_stats(stats: Stats) -> None:
    from qdsft.data.checks.stats import SHAPES, summary

    print_result(f"{'rows':<22} {stats.rows:>9}")
    if stats.unusable:
        print_result(f"{'unusable, not counted':<22} {stats.unusable:>9}  qdsft data check lists them")
    if not stats.rows:
        return
    print_result(f"{'with references':<22} {stats.with_references:>9}  {stats.with_references / stats.rows:.1%}")
    print_result(f"\n{'':<22} {'min':>9} {'median':>9} {'p95':>9} {'max':>9}")
    lengths = {"question (characters)": stats.question_length, "step (characters)": stats.step_length}
    for name, values in {"steps per row": stats.steps, **lengths}.items():
        print_result(f"{name:<22}" + "".join(f" {value:>9}" for value in summary(values).values()))
    many = sum(count for steps, count in stats.steps.items() if steps > MANY_STEPS)
    bars = {str(steps): stats.steps[steps] for steps in range(1, min(max(stats.steps), MANY_STEPS) + 1)}
    _print_bars("steps per row", {**bars, f"more than {MANY_STEPS}": many} if many else bars)
    _print_bars("references", {name: stats.shapes[name] for name in SHAPES})
    _print_bars("script of the question", dict(stats.scripts.most_common()))


def _print_bars(title: str, counts: dict[str, int]) -> None:
    total, longest = sum(counts.values()), max(counts.values())
    print_result(f"\n{title}")
    for name, count in counts.items():
        print_result(f"  {name:<20} {count:>9} {count / total:>6.1%}  {'█' * round(40 * count / longest)}".rstrip())
