"""A folder with everything that commands read, built once and copied with hard links for each case."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.certificates import make_certificate
from helpers.corpus.case import Case
from helpers.tiny_run import make_run

from qdsft.cli.main import main
from qdsft.runs.certificate import write_certificate
from qdsft.time_limit import TookTooLong, time_limit

SECONDS = 60.0
"""More than the longest case takes under load."""
MEMORY = 3 * 2**30
"""Address space that a case may use beyond what the process has."""
REMEDIES = (";", "(", " must ", " should ", "the minimum of", "the maximum of")
"""Parts of a message that says what to do, or which values are right."""
RECIPE = """\
model:
  name_or_path: base
  chat_template: template.jinja
data:
  train: rows.jsonl
  eval_fraction: 0.2
prompt:
  system: ""
lora:
  r: 4
training:
  output_dir: part
  max_steps: 4
  max_length: 256
  per_device_train_batch_size: 2
  global_batch_size: 2
  learning_rate: 1e-3
  warmup_steps: 0
  logging_steps: 1
  save_strategy: steps
  save_steps: 1
  save_total_limit: 9
  report_to: none
  disable_tqdm: true
evaluation:
  max_new_tokens: 16
"""
_ROW = {"question": "How old is number {}?", "sub_questions": ["Who is number {}?", "How old is #1?"]}


def _rows(count: int) -> str:
    return "".join(json.dumps(_ROW).replace("{}", str(number)) + "\n" for number in range(count))


def build_workspace(folder: Path, base: Path, template: Path) -> None:
    """Fill a folder: a base model, runs (adapter, whole, merged, interrupted), a recipe, rows and results."""
    folder.mkdir(parents=True)
    shutil.copytree(base, folder / "base")
    shutil.copyfile(template, folder / "template.jinja")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (folder / "rows.jsonl").write_text(_rows(30), encoding="utf-8")
    (folder / "rows.csv").write_text('question,sub_questions\n"a?","[""b?"", ""#1""]"\n', encoding="utf-8")
    (folder / "break.csv").write_text("question_id,question_text,decomposition\n1,a b,return a ;return #1 b\n")
    (folder / "musique.jsonl").write_text('{"question":"a?","question_decomposition":[{"id":1,"question":"b?"}]}\n')
    (folder / "strategyqa.json").write_text('[{"qid":1,"question":"a?","decomposition":["b?"]}]')
    (folder / "answers.jsonl").write_text(_rows(30), encoding="utf-8")
    with contextlib.chdir(folder):
        runs = Path("runs")
        make_run(runs / "adapter", Path("base"), "tiny/full", "lora.r=4", lora_scale=0.1)
        make_run(runs / "whole", Path("base"))
        make_run(runs / "merged", Path("base"))
        write_certificate(runs / "merged" / "model", make_certificate())
        assert main(["train", "recipe.yaml"]) == 0
        assert main(["evaluate", "part", "--samples", "3"]) == 0
        for name in ("metrics.json", "predictions.jsonl", "eval.jsonl"):
            shutil.copyfile(Path("part") / name, runs / "adapter" / name)
        _held_out(runs / "adapter")
        _interrupt(Path("part"))
    for place in (folder, folder / "runs", folder / "part", folder / "runs" / "adapter"):
        (place / "my notes.txt").write_text("keep me\n", encoding="utf-8")


def _held_out(run_dir: Path) -> None:
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    manifest["data"]["eval_rows"] = 3
    (run_dir / "run.json").write_text(json.dumps(manifest), encoding="utf-8")


def _interrupt(run_dir: Path) -> None:
    """Turn a finished run into one that was killed in its last step."""
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    manifest["state"] = "running"
    (run_dir / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    for name in ("adapter", "checkpoint-4", "checkpoint-1"):
        shutil.rmtree(run_dir / name)
    for name in ("loss.png", "README.md", "metrics.json", "predictions.jsonl", "report.html"):
        (run_dir / name).unlink(missing_ok=True)


def contents(folder: Path) -> dict[str, str]:
    """Return path -> SHA-256 of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: int | str
    """The exit status, or the exception."""
    stdout: str
    stderr: str
    seconds: float


def run_case(case: Case, workspace: Path, folder: Path, read: Callable[[], tuple[str, str]]) -> str | None:
    """Run a case in a copy of the workspace; return what is wrong with how the command took it, or None.

    `read` returns what was printed since its last call to standard output and standard error.
    """
    shutil.copytree(workspace, folder, copy_function=_link, symlinks=True)
    case.damage(folder)
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    read()
    started = time.monotonic()
    with contextlib.chdir(folder), _memory_limit():
        status = _status(case.arguments)
    outcome = Outcome(status, *read(), time.monotonic() - started)
    gone = before - {path.relative_to(folder) for path in folder.rglob("*")}
    wrong = _fault(case, outcome) or (f"deleted {sorted(map(str, gone))}" if _of_others(gone, case) else None)
    shutil.rmtree(folder)
    said = outcome.stderr.strip()[-600:]
    return None if wrong is None else f"{case.kind}: {case.name} ({' '.join(case.arguments)[:90]}): {wrong}: {said}"


def _link(source: str, target: str) -> None:
    # log.jsonl is appended to in place.
    shutil.copyfile(source, target) if source.endswith("log.jsonl") else os.link(source, target)


def _of_others(gone: set[Path], case: Case) -> bool:
    """Return whether a command deleted more than `--overwrite` may."""
    return any("my notes.txt" in path.parts or "--overwrite" not in case.arguments for path in gone)


def _status(arguments: tuple[str, ...]) -> int | str:
    try:
        with time_limit(SECONDS):
            return main(list(arguments))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else repr(error)
    except TookTooLong:
        return f"took over {SECONDS:g} s"
    except BaseException as error:
        trace, place = error.__traceback__, ""
        while trace:
            place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
        return f"{type(error).__name__} at {place}: {str(error)[:300]}"


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):  # not on Linux
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _fault(case: Case, outcome: Outcome) -> str | None:
    """Return what is wrong with an outcome; None if it is as it should be."""
    text = outcome.stdout + outcome.stderr
    is_report = case.arguments[:2] == ("data", "check")  # which lists problems in its result
    errors = [line for line in outcome.stderr.splitlines() if "error: " in line]
    failed = "".join(line for line in outcome.stdout.splitlines() if "FAILED" in line)  # by preflight
    expected = (0, 1, 2) if case.status is None else (case.status,)
    if outcome.status not in expected:
        return f"status {outcome.status}, not {case.status}"
    if "Traceback" in text:
        return "a traceback"
    if "out of memory" in text:
        return "needs too much memory"
    if "\x1b" in text or "\x07" in text:
        return "prints control characters"
    if case.prints not in text:
        return f"does not print {case.prints!r}"
    if outcome.status == 0 or (is_report and not errors):
        return None
    if len(errors) != 1 or not outcome.stderr.strip().endswith(errors[0]):
        return f"{len(errors)} errors instead of one at the end"
    if len(errors[0]) > 1000:
        return "a message of over 1000 characters"
    if case.mentions and not any(word in errors[0] + failed for word in case.mentions):
        return f"names none of {case.mentions}"
    if outcome.status == 1 and not any(mark in errors[0] for mark in REMEDIES):
        return "no remedy"
    return None
