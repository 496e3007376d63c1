"""A tiny trained run, and its answers under the faults that a server can have, each decoded by the real model once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from helpers.loopback_servers import stub_server
from helpers.paths import ROOT
from helpers.tiny_run import make_run

from qdsft.data.examples import Example
from qdsft.data.readers import stream_records
from qdsft.deploy.endpoint import ServedAnswer
from qdsft.inference.loaded_run import LoadedRun, load_run
from qdsft.metrics.prediction_rows import json_lines, prediction_row
from qdsft.runs.eval_rows import write_eval_rows
from qdsft.runs.layout import PREDICTIONS_FILE
from qdsft.runs.manifest import read_manifest, write_manifest

ROWS, STEPS = 12, 70
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Planted:
    """How a server renders, answers and reports. The answers are those to the golden prompts, then to the rows."""

    answers: Sequence[ServedAnswer]
    ids: Sequence[Sequence[int]]
    """Token ids of the prompts, as the server renders them."""
    shows: str = "vllm"
    """vllm: /tokenize; llama.cpp: /apply-template and /tokenize; reply: ids in the answer; count: usage; or nothing."""
    again: Sequence[ServedAnswer] | None = None
    """The answers to every second request."""
    default: Sequence[ServedAnswer] | None = None
    """The answers to requests without a temperature."""
    chat: bool = True


@dataclass(frozen=True)
class Table:
    """The run, its prompts, and its answers."""

    run_dir: Path
    run: LoadedRun
    base: Weights
    prompts: list[list[int]]
    questions: list[str]
    """The user messages of the prompts."""
    answers: list[ServedAnswer] = field(default_factory=list)

    @property
    def clean(self) -> Planted:
        """The server without a fault."""
        return Planted(self.answers, self.prompts)

    def decode(
        self, prompts: Sequence[Sequence[int]] | None = None, *, stops: Sequence[int] | None = None
    ) -> list[ServedAnswer]:
        """Decode with the weights that the model has now."""
        manifest = self.run.manifest
        if stops is not None:
            manifest = manifest.model_copy(update={"stop_token_ids": list(stops)})
        found = dict(replace(self.run, manifest=manifest).stream_ids(prompts or self.prompts, batch_size=16))
        return [ServedAnswer(found[i].text, found[i].stopped) for i in range(len(self.prompts))]

    def sample(self, seed: int) -> list[ServedAnswer]:
        """Decode with sampling at temperature 1, one prompt after the other."""
        torch.manual_seed(seed)
        stop, found = self.run.manifest.stop_token_ids, []
        for ids in self.prompts:
            new = self.run.model.generate(
                torch.tensor([ids]),
                max_new_tokens=self.run.max_new_tokens,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                eos_token_id=stop,
            )[0, len(ids) :]
            text = self.run.tokenizer.decode(new, skip_special_tokens=True).strip()
            found.append(ServedAnswer(text, int(new[-1]) in stop))
        return found

    @contextmanager
    def weights(self, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], only: str = "") -> Iterator[None]:
        """Give the matrices whose names contain `only` the value of `change(base, delta)`, and undo that."""
        own = copy.deepcopy(self.run.model.state_dict())
        changed = {
            name: change(self.base[name], own[name] - self.base[name]) if value.ndim == 2 and only in name else value
            for name, value in own.items()
        }
        self.run.model.load_state_dict(changed)
        try:
            yield
        finally:
            self.run.model.load_state_dict(own)


def build_table(folder: Path, base: Path) -> Table:
    """Train a whole model on a few rows until it knows most of them, and record what it answers."""
    run_dir = make_run(folder / "my run", base, "tiny/full", "evaluation.max_new_tokens=72")
    run = load_run(run_dir)
    rows = ROOT / "data" / "examples" / "sample_train.jsonl"
    examples = [run.task.example(record) for record in islice(stream_records(rows), ROWS)]
    before = copy.deepcopy(run.model.state_dict())
    train(run, examples, [one.completion for one in examples])
    run.model.save_pretrained(run_dir / "model")
    write_eval_rows(run_dir, examples)
    manifest = read_manifest(run_dir)
    write_manifest(
        run_dir, manifest.model_copy(update={"data": manifest.data.model_copy(update={"eval_rows": len(examples)})})
    )
    golden = manifest.golden_prompts
    prompts = [*(one.ids for one in golden), *run.encode([one.messages for one in examples])]
    questions = [*(one.messages[-1]["content"] for one in golden), *(one.question for one in examples)]
    table = Table(run_dir, load_run(run_dir), before, prompts, questions)
    table.answers.extend(table.decode())
    predicted = [
        prediction_row(run.task.predict(example, answer.text, answer.stopped is True))
        for example, answer in zip(examples, table.answers[len(golden) :], strict=True)
    ]
    (run_dir / PREDICTIONS_FILE).write_text(json_lines(predicted), encoding="utf-8")
    return table


def train(run: LoadedRun, examples: Sequence[Example], completions: Sequence[str], steps: int = STEPS) -> None:
    """Train all weights on the rows as one batch."""
    torch.manual_seed(0)
    pairs = []
    for prompt, text in zip(run.encode([one.messages for one in examples]), completions, strict=True):
        answer = run.tokenizer(text, add_special_tokens=False)["input_ids"] + [run.manifest.stop_token_ids[0]]
        pairs.append((prompt, answer))
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids, labels = torch.zeros(len(pairs), longest, dtype=torch.long), torch.full((len(pairs), longest), -100)
    for row, (prompt, answer) in enumerate(pairs):
        ids[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=4e-3)
    for _ in range(steps):
        loss = run.model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        optimizer.step()


@contextmanager
def serving(table: Table, planted: Planted) -> Iterator[str]:
    """Serve a table's answers over HTTP; yields the address."""
    asked: dict[int, int] = {}

    def respond(path: str, body: dict[str, Any]) -> tuple[int, object]:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "served", "object": "model"}]}
        if path == "/apply-template" and planted.shows == "llama.cpp":
            return 200, {"prompt": body["messages"][-1]["content"]}
        if path == "/tokenize" and planted.shows in ("vllm", "llama.cpp"):
            question = body["content"] if planted.shows == "llama.cpp" else body["messages"][-1]["content"]
            return 200, {"tokens": list(planted.ids[table.questions.index(question)])}
        if path == "/v1/chat/completions" and planted.chat:
            return 200, complete(body, table.questions.index(body["messages"][-1]["content"]))
        if path == "/v1/completions":
            return 200, complete(body, table.prompts.index(body["prompt"]))
        return 404, {"error": "no such path"}

    def complete(body: dict[str, Any], place: int) -> dict[str, Any]:
        times = asked[place] = asked.get(place, 0) + 1
        answers = planted.again if planted.again and times % 2 == 0 else planted.answers
        answers = planted.default if planted.default and "temperature" not in body else answers
        answer = answers[place]
        finish = {True: "stop", False: "length", None: None}[answer.stopped]
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": answer.text}} if planted.chat else {"text": answer.text}
        reply: dict[str, Any] = {"choices": [choice], "model": body["model"]}
        if planted.shows == "reply":
            reply["prompt_token_ids"] = list(planted.ids[place])
        if planted.shows != "nothing":
            reply["usage"] = {"prompt_tokens": len(planted.ids[place])}
        return reply

    with stub_server(respond) as address:
        yield address
