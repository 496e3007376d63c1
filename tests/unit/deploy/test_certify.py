"""Every planted server is told from the run's own, and no clean one is taken for a wrong one.

The answers of the planted servers are a real tiny model's: its weights, prompts, stop tokens or sampling have the
fault, and it decodes each of them once. Faults of the server's text handling are made from its right answers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.loopback_servers import stub_server
from helpers.served_table import Planted, Table, build_table, serving, train

from qdsft.cli import main
from qdsft.deploy.certify import Questions, certify, choose_rows, prepare, replay, report
from qdsft.deploy.endpoint import Endpoint, ServedAnswer
from qdsft.deploy.served_checks import Check
from qdsft.errors import UserError
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.runs.layout import PREDICTIONS_FILE

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
AnswersChange = Callable[[Sequence[ServedAnswer]], list[ServedAnswer]]


@pytest.fixture(scope="module")
def table(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A trained run and its answers, decoded once."""
    return build_table(tmp_path_factory.mktemp("certify"), tiny_model("llama"))


@pytest.fixture(scope="module")
def questions(table: Table) -> Questions:
    return prepare(table.run, 64)


def verdicts(table: Table, questions: Questions, planted: Planted) -> dict[str, Check]:
    """Serve over HTTP, certify, and return the checks by name."""
    with serving(table, planted) as address:
        found = replay(questions, Endpoint(address, seconds=20), address, "served", 0.5)
    checks = {check.name: check for check in found.checks}
    assert found.passed is ("failed" not in {check.verdict for check in found.checks}), report(found)
    return checks


def failed(table: Table, questions: Questions, planted: Planted) -> set[str]:
    return {name for name, check in verdicts(table, questions, planted).items() if check.verdict == "failed"}


def pissa(base: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Add the principal part, which a PiSSA adapter holds, to weights that still have it."""
    left, values, right = torch.linalg.svd(base + delta, full_matrices=False)
    principal: torch.Tensor = (left[:, :8] * values[:8]) @ right[:8]
    return base + delta + principal


def rounded(levels: int) -> Change:
    def change(base: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        scale = (base + delta).abs().amax(1, keepdim=True) / levels
        return torch.round((base + delta) / scale) * scale

    return change


WEIGHTS: dict[str, tuple[Change, str]] = {
    "base model": (lambda base, _: base, ""),
    "merged twice": (lambda base, delta: base + 2 * delta, ""),
    "half of the adapter's scale": (lambda base, delta: base + delta / 2, ""),
    "one and a half of the scale": (lambda base, delta: base + 1.5 * delta, ""),
    "subtracted adapter": (lambda base, delta: base - delta, ""),
    "PiSSA adapter on the untouched base": (pissa, ""),
    "no adapter on the MLP": (lambda base, _: base, "mlp"),
    "no adapter on the attention": (lambda base, _: base, "self_attn"),
    "no adapter on a layer": (lambda base, _: base, "layers.1."),
    "no saved embeddings": (lambda base, _: base, "embed_tokens"),
    "no saved head": (lambda base, _: base, "lm_head"),
    "two bits": (rounded(1), ""),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_other_weights_are_found(name: str, table: Table, questions: Questions) -> None:
    change, only = WEIGHTS[name]
    with table.weights(change, only):
        answers = table.decode()
    assert {"greedy answers", "scores"} <= failed(table, questions, Planted(answers, table.prompts))


def test_a_missing_or_wrong_adapter_is_found(table: Table, questions: Questions) -> None:
    examples = read_eval_rows(table.run_dir)
    with table.weights(lambda base, _: base):
        train(table.run, examples, [one.completion for one in [*examples[1:], examples[0]]], steps=25)
        answers = table.decode()
    assert len({answer.text for answer in answers}) > 1
    assert "greedy answers" in failed(table, questions, Planted(answers, table.prompts))


@pytest.mark.parametrize("levels", [127, 15, 7])
def test_quantized_weights_are_reported(levels: int, table: Table, questions: Questions) -> None:
    with table.weights(rounded(levels)):
        answers = table.decode()
    checks = verdicts(table, questions, Planted(answers, table.prompts))
    assert "failed" not in {check.verdict for check in checks.values()}
    # A real difference: the number of changed answers is what the table says.
    changed = sum(
        one.text != two.text for one, two in zip(answers[2:], table.answers[2:], strict=True)
    )  # golden prompts have no recorded answer
    assert checks["greedy answers"].different == changed
    assert checks["greedy answers"].verdict == ("differs" if changed else "passed")


PROMPTS: dict[str, Callable[[list[int]], list[int]]] = {
    "doubled BOS": lambda ids: [ids[0], *ids],
    "no BOS": lambda ids: ids[1:],
    "context of the last 8 tokens": lambda ids: ids[-8:],
    "context of the first 8 tokens": lambda ids: ids[:8],
    "no generation prompt": lambda ids: ids[:-2],
    "generation prompt twice": lambda ids: [*ids, *ids[-2:]],
    "another template": lambda ids: [ids[0], *ids[4:-3], ids[3]],
    "another token in the template": lambda ids: [*ids[:-1], ids[-2]],
}


@pytest.mark.parametrize("shows", ["vllm", "llama.cpp", "reply", "count"])
@pytest.mark.parametrize("name", PROMPTS)
def test_another_prompt_is_found(name: str, shows: str, table: Table, questions: Questions) -> None:
    served = [PROMPTS[name](ids) for ids in table.prompts]
    seen = shows != "count" or len(served[0]) != len(table.prompts[0])
    # The answers are right: the ids alone give the fault away, or their number where only that is shown.
    assert failed(table, questions, Planted(table.answers, served, shows)) == ({"prompt ids"} if seen else set())


@pytest.mark.parametrize("name", ["context of the last 8 tokens", "another template"])
def test_another_prompt_is_found_in_the_answers(name: str, table: Table, questions: Questions) -> None:
    served = [PROMPTS[name](ids) for ids in table.prompts]
    checks = failed(table, questions, Planted(table.decode(served), served, "nothing"))
    assert "prompt ids" not in checks and "greedy answers" in checks


def test_a_context_that_truncates_the_longest_prompt_is_found(table: Table, questions: Questions) -> None:
    longest = max(map(len, table.prompts[2:]))
    served = [ids[-(longest - 2) :] for ids in table.prompts]
    check = verdicts(table, questions, Planted(table.answers, served))["prompt ids"]
    assert check.verdict == "failed" and "truncated" in check.detail


@pytest.mark.parametrize("fixed", [False, True], ids=["always", "without a temperature"])
@pytest.mark.parametrize("seed", range(3))
def test_sampling_is_found(seed: int, fixed: bool, table: Table, questions: Questions) -> None:
    sampled = table.sample(seed)
    clean = table.clean
    planted = (
        replace(clean, default=sampled) if fixed else replace(clean, answers=sampled, again=table.sample(seed + 9))
    )
    assert "sampling" in failed(table, questions, planted)


def test_other_stop_tokens_are_found(table: Table, questions: Questions) -> None:
    mark = table.run.tokenizer.convert_tokens_to_ids("?")
    for stops in ([mark], [*table.run.manifest.stop_token_ids, mark], [3]):
        answers = table.decode(stops=stops)
        assert "stop" in failed(table, questions, Planted(answers, table.prompts)), stops


def edited(change: Callable[[str], str], stopped: bool | None = True) -> AnswersChange:
    return lambda answers: [replace(one, text=change(one.text), stopped=stopped) for one in answers]


TEXTS: dict[str, tuple[AnswersChange, str]] = {
    "stop at a line": (edited(lambda text: text.split("\n")[0]), "stop"),
    "stop at a dot": (edited(lambda text: text.split(".")[0] + "."), "structural validity"),
    "max_tokens of the server": (edited(lambda text: text[:40], stopped=False), "stop"),
    "stop token in the text": (edited(lambda text: text + "</s>"), "stop"),
    "text after the answer": (edited(lambda text: text + "\nuser: and?"), "structural validity"),
    "no stop reported": (edited(str, stopped=False), "stop"),
    "a polite beginning": (edited(lambda text: "Sure! Here are the steps:\n" + text), "structural validity"),
    "a code fence": (edited(lambda text: f"```\n{text}\n```"), "structural validity"),
    "line feeds lost": (edited(lambda text: " ".join(text.split())), "greedy answers"),
    "numbers stripped": (edited(lambda text: "\n".join(line[3:] for line in text.split("\n"))), "structural validity"),
    "spaces cleaned up": (edited(lambda text: text.replace(" #", "#").replace("?", " ?")), "greedy answers"),
    "not UTF-8": (edited(lambda text: text.encode().decode("latin-1")), "scores"),
    "upper case": (edited(str.upper), "scores"),
    "nothing": (edited(lambda _: ""), "structural validity"),
    "answers of other requests": (lambda answers: [*answers[1:], answers[0]], "greedy answers"),
    "one answer to all": (lambda answers: [answers[0]] * len(answers), "greedy answers"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_another_handling_of_the_text_is_found(name: str, table: Table, questions: Questions) -> None:
    change, check = TEXTS[name]
    assert check in failed(table, questions, Planted(change(table.answers), table.prompts))


class InProcess(Endpoint):
    """The answers of a table without HTTP."""

    def __init__(self, table: Table) -> None:
        super().__init__("http://127.0.0.1:1")
        self.table, self.planted = table, table.clean

    def prompt_ids(self, model: str, messages: Sequence[dict[str, str]]) -> list[int] | None:
        place = self.table.questions.index(messages[-1]["content"])
        return list(self.planted.ids[place]) if self.planted.shows == "vllm" else None

    def answer(
        self, model: str, messages: Sequence[dict[str, str]], ids: Sequence[int], max_tokens: int, *, greedy: bool
    ) -> ServedAnswer:
        place = self.table.questions.index(messages[-1]["content"])
        found = self.planted.answers[place]
        return replace(found, prompt_tokens=None if self.planted.shows == "nothing" else len(self.planted.ids[place]))


def test_no_false_alarm_in_500_clean_replays(table: Table, questions: Questions) -> None:
    """Clean servers differ in which rows are asked, in what they show, and in one token that half precision changes."""
    chance, endpoint, alarms = random.Random(0), InProcess(table), []
    for turn in range(500):
        shows = chance.choice(["vllm", "count", "nothing"])
        answers = [replace(one, stopped=chance.choice([one.stopped, None])) for one in table.answers]
        count = chance.randint(8, 14)
        chosen = replace(questions, asked=sorted(chance.sample(questions.asked, count), key=questions.asked.index))
        if chance.random() < 0.3:
            place = chance.randrange(len(answers))
            answers[place] = replace(answers[place], text=answers[place].text.replace("#1", "#2", 1))
        endpoint.planted = Planted(answers, table.prompts, shows)
        found = replay(chosen, endpoint, "in process", "served", 0.5)
        alarms += [(turn, check) for check in found.checks if check.verdict == "failed"]
    assert alarms == []


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_the_command_certifies_a_clean_server(
    chat: bool, table: Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(table, replace(table.clean, chat=chat)) as address:
        assert main(["certify", "--endpoint", f"{address}/v1/", str(table.run_dir), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert main(["certify", "--endpoint", address, str(table.run_dir), "--rows", "3", "--decode"]) == 0
    assert found["passed"] and found["model"] == "served" and found["expected"] == PREDICTIONS_FILE
    assert {check["verdict"] for check in found["checks"]} == {"passed"}
    out = capsys.readouterr().out
    assert "2 golden prompts and 3 held-out rows, compared with decoded here" in out


def test_the_command_fails_on_a_wrong_server(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(table, replace(table.clean, ids=[[1, *ids] for ids in table.prompts])) as address:
        assert main(["certify", "--endpoint", address, str(table.run_dir)]) == 1
    out = capsys.readouterr().out
    assert "failed       prompt ids: 14 of 14" in out and "second BOS" in out and "does not serve this run" in out


def test_predictions_of_other_rows_are_refused(table: Table) -> None:
    path = table.run_dir / PREDICTIONS_FILE
    before = path.read_text(encoding="utf-8")
    lines = before.splitlines(keepends=True)
    try:
        path.write_text("".join(reversed(lines)), encoding="utf-8")
        with serving(table, table.clean) as address, pytest.raises(UserError, match="not the held-out rows"):
            certify(table.run_dir, address, rows=4, min_identical=0.5)
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_server_without_the_run_is_one_line(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    with stub_server(lambda path, body: (200, {"data": [{"id": "a\x1b[2J"}, {"id": "b"}]})) as address:
        assert main(["certify", "--endpoint", address, str(table.run_dir)]) == 1
    error = capsys.readouterr().err
    assert "--model NAME" in error and "\x1b" not in error and error.count("\n") == 1


def test_the_longest_row_is_always_asked() -> None:
    for rows in range(1, 30):
        lengths = [random.Random(rows).randrange(100) for _ in range(50)]
        places = choose_rows(lengths, rows)
        assert len(places) == rows and lengths.index(max(lengths)) in places and places == sorted(set(places))
    assert choose_rows([1, 2], 5) == [0, 1]
