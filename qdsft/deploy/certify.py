"""Find out whether a server serves a run: replay its prompts there, and compare with the run's own answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from qdsft.console import say
from qdsft.data.examples import Example
from qdsft.data.prompt import Message
from qdsft.deploy.endpoint import Endpoint, choose_model
from qdsft.deploy.served_checks import (
    Check,
    Expected,
    Replay,
    check_answers,
    check_prompt_ids,
    check_sampling,
    check_scores,
    check_stop,
    check_validity,
)
from qdsft.deploy.served_folder import served_name
from qdsft.errors import UserError
from qdsft.hashing import json_sha256
from qdsft.inference.decode_rows import identify
from qdsft.inference.loaded_run import RunPrompts, load_prompts, load_weights
from qdsft.metrics.prediction_rows import PredictionRow, read_prediction_rows
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.runs.layout import EVAL_ROWS, PREDICTIONS_FILE
from qdsft.runs.manifest import Manifest
from qdsft.runs.results import read_metrics_file

ASKED_AGAIN = 16
"""Prompts that are asked a second time, without a temperature."""


@dataclass(frozen=True)
class Question:
    """A prompt to replay."""

    name: str
    messages: Sequence[Message]
    ids: Sequence[int]
    example: Example | None
    expected: Expected | None


@dataclass(frozen=True)
class Questions:
    """The prompts to replay, and where the expected answers come from."""

    run: RunPrompts
    asked: list[Question]
    source: str


@dataclass(frozen=True)
class ServerCertificate:
    """The verdict on a server."""

    qdsft_certify: int
    endpoint: str
    model: str
    run: str
    """SHA-256 of the run's manifest."""
    expected: str
    """Where the expected answers come from."""
    golden_prompts: int
    held_out_rows: int
    passed: bool
    """True if no check failed."""
    checks: list[Check]

    def to_json(self) -> dict[str, Any]:
        """Return everything under the names of the fields."""
        return asdict(self)


def certify(
    run_dir: Path,
    url: str,
    *,
    model: str | None = None,
    rows: int,
    min_identical: float,
    decode: bool = False,
    manifest: Manifest | None = None,
    trust_remote_code: bool = False,
) -> ServerCertificate:
    """Replay the golden prompts and `rows` held-out rows of a run on the server at `url`.

    The expected answers are those in predictions.jsonl. Without that file, or with `decode`, the run answers here.

    Raises UserError as `load_run` does, and for a server that cannot be reached or replies with something else.
    """
    endpoint = Endpoint(url)
    name = choose_model(endpoint.models(), model, served_name(run_dir)) if model is None else model
    run = load_prompts(run_dir, manifest, trust_remote_code=trust_remote_code)
    return replay(prepare(run, rows, decode=decode), endpoint, url, name, min_identical)


def prepare(run: RunPrompts, rows: int, *, decode: bool = False) -> Questions:
    """Return the prompts to replay, with the run's own answers to them. Raises UserError as `load_weights` does."""
    examples = (
        read_eval_rows(run.run_dir) if run.manifest.data.eval_rows and (run.run_dir / EVAL_ROWS).is_file() else []
    )
    recorded = [] if decode else _recorded(run, examples)
    places = choose_rows([sum(len(message["content"]) for message in one.messages) for one in examples], rows)
    if recorded:
        places = choose_rows([len(row.question) for row in recorded], rows)
    golden = run.manifest.golden_prompts
    ids = run.encode([examples[place].messages for place in places])
    asked = [Question(f"golden prompt {i + 1}", one.messages, one.ids, None, None) for i, one in enumerate(golden)]
    for place, prompt in zip(places, ids, strict=True):
        known = Expected(recorded[place].text.strip(), recorded[place].stopped) if recorded else None
        example = examples[place]
        asked.append(Question(f"held-out row {place + 1}", example.messages, prompt, example, known))
    if recorded:
        return Questions(run, asked, PREDICTIONS_FILE)
    say(f"decoding the answers of {run.run_dir} to {len(asked)} prompts, to compare with")
    answers = dict(load_weights(run).stream_ids([one.ids for one in asked], batch_size=4, progress=True))
    decoded = [
        Question(one.name, one.messages, one.ids, one.example, Expected(answers[i].text, answers[i].stopped))
        for i, one in enumerate(asked)
    ]
    return Questions(run, decoded, "decoded here")


def replay(questions: Questions, endpoint: Endpoint, url: str, model: str, min_identical: float) -> ServerCertificate:
    """Ask a server all the questions and return the verdict; raises UserError as `Endpoint` does."""
    run, asked = questions.run, questions.asked
    replays = [
        _replay(one, endpoint, model, run.max_new_tokens, twice=i < ASKED_AGAIN)
        for i, one in enumerate(tqdm(asked, desc="asking", unit="prompt", disable=None))
    ]
    checks = [
        check_prompt_ids(replays),
        check_sampling(replays),
        check_answers(replays, min_identical),
        check_stop(replays),
        check_validity(replays, run.task),
        check_scores(replays, run.task),
    ]
    rows = sum(one.example is not None for one in asked)
    passed = all(check.verdict != "failed" for check in checks)
    return ServerCertificate(
        1, url, model, run.manifest.sha256(), questions.source, len(asked) - rows, rows, passed, checks
    )


def choose_rows(lengths: Sequence[int], rows: int) -> list[int]:
    """Return at most `rows` places, in order: the longest prompt, which a short context truncates, and others."""
    if len(lengths) <= rows:
        return list(range(len(lengths)))
    longest = max(range(len(lengths)), key=lambda place: lengths[place])
    spread = {place * len(lengths) // rows for place in range(rows)}
    if longest not in spread:
        spread = {longest, *sorted(spread)[: rows - 1]}
    return sorted(spread)


def report(found: ServerCertificate) -> list[str]:
    """Return the certificate as lines of text."""
    lines = [f"{check.verdict:12} {check.name}: {check.detail}" for check in found.checks]
    asked = f"{found.golden_prompts} golden prompts and {found.held_out_rows} held-out rows"
    verdict = "serves this run" if found.passed else "does not serve this run"
    model = " ".join(found.model.split())
    return [*lines, f"{found.endpoint} {verdict}: {model}, {asked}, compared with {found.expected}"]


def _replay(one: Question, endpoint: Endpoint, model: str, max_tokens: int, *, twice: bool) -> Replay:
    served_ids = endpoint.prompt_ids(model, one.messages)
    served = endpoint.answer(model, one.messages, one.ids, max_tokens, greedy=True)
    again = endpoint.answer(model, one.messages, one.ids, max_tokens, greedy=False) if twice else None
    seen = served.prompt_ids if served_ids is None else served_ids
    return Replay(one.name, one.messages, one.ids, one.expected, one.example, seen, served, again)


def _recorded(run: RunPrompts, examples: Sequence[Example]) -> list[PredictionRow]:
    """Return the answers that `qdsft evaluate` kept, in the order of `examples`; empty if there are none."""
    path = run.run_dir / PREDICTIONS_FILE
    if not examples or not path.is_file():
        return []
    rows = list(read_prediction_rows(path))
    first = examples[: len(rows)]
    if len(first) < len(rows) or any(
        row.question != run.task.predict(example, "", True).question for row, example in zip(rows, first, strict=True)
    ):
        raise UserError(f"{path}: its rows are not the held-out rows of the run; evaluate again, or add --decode")
    known = read_metrics_file(run.run_dir).identities.get("tuned")
    if known != json_sha256(identify(run.run_dir, run.manifest, first, "tuned")):
        say(f"{path}: written before the files of the run were changed or copied; --decode answers again")
    return rows
