"""Make an evaluation for the tests of the report, from rows of the synthetic corpus with added faults."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps
from qdsft.data.synth import generate_mixed
from qdsft.metrics.model_metrics import Decoding, GroupMetrics, ModelMetrics
from qdsft.metrics.prediction_rows import PredictionRow, prediction_row
from qdsft.metrics.summary import summarise
from qdsft.runs.facts import BaseModelFacts, DataFacts, DeviceFacts, Fingerprint, ResultFacts, TokenFacts
from qdsft.runs.layout import LOG
from qdsft.runs.manifest import GoldenPrompt, Manifest


def predictions(count: int, *, spoilt: float = 0.5, seed: int = 0) -> list[PredictionRow]:
    """Return rows as in predictions.jsonl. About the share `spoilt` of them has a fault."""
    chance = random.Random(seed)
    rows = []
    for place, row in enumerate(generate_mixed(["en", "ko"], count, seed)):
        steps = _spoil(list(row["sub_questions"]), chance) if chance.random() < spoilt else row["sub_questions"]
        made = prediction(row["question"], row["sub_questions"], steps, row["language"], chance.random() > 0.02)
        rows.append(made.model_copy(update={"source": ("films", "cities", None)[place % 3]}))
    return rows


def prediction(
    question: str, gold: list[str], steps: list[str], language: str = "en", stopped: bool = True
) -> PredictionRow:
    """Return one row of predictions.jsonl."""
    row = prediction_row(PredictedSteps.parse(question, gold, Decomposition(tuple(steps)).render(), stopped))
    common = len(set(gold) & set(steps))
    row.scores["step_f1"] = 2 * common / (len(set(gold)) + len(set(steps)) or 1)
    return row.model_copy(update={"language": language})


def metrics(rows: list[PredictionRow], *, worse: float = 0.0) -> ModelMetrics:
    """Return one model's part of metrics.json, with every mean lower by `worse`."""
    found = summarise(rows)
    return ModelMetrics(
        samples=found.samples,
        means=_lower(found.means, worse),
        intervals={name: (max(0.0, low - worse), high - worse) for name, (low, high) in found.intervals.items()},
        groups={
            kind: {name: GroupMetrics(group.samples, _lower(group.means, worse)) for name, group in groups.items()}
            for kind, groups in found.groups.items()
        },
        decoding=Decoding(loss=0.41 + worse, seconds=35.2, new_tokens=52310, new_tokens_per_second=1486.1),
    )


def _lower(means: dict[str, float], worse: float) -> dict[str, float]:
    return {name: max(0.0, mean - worse) for name, mean in means.items()}


def write_log(run_dir: Path, steps: int = 2400, every: int = 25) -> None:
    """Return a log.jsonl as the trainer writes it, with some held-out losses and SARI values."""
    chance = random.Random(1)
    with (run_dir / LOG).open("w", encoding="utf-8") as file:
        for step in range(every, steps + 1, every):
            loss = 4.2 * math.exp(-step / 350) + 0.03 + 0.03 * chance.random()
            rate = 4e-3 * min(1.0, step / 100) * (1 + math.cos(math.pi * step / steps)) / 2
            file.write(json.dumps({"step": step, "loss": loss, "learning_rate": rate, "grad_norm": loss}) + "\n")
            if step % 300 == 0:
                held_out = {"step": step, "eval_loss": loss * 1.15 + 0.02, "eval_sari": 1 - 0.6 * math.exp(-step / 600)}
                file.write(json.dumps(held_out) + "\n")
        file.write(json.dumps({"step": steps, "train_runtime": 220.8, "train_loss": 0.36}) + "\n")


def manifest() -> Manifest:
    """Return a run.json of a finished run."""
    return Manifest(
        state="finished",
        recipe_path="recipes/tiny/full.yaml",
        recipe={"seed": 42},
        origins={},
        fingerprint=Fingerprint(),
        data=DataFacts(train_rows=9808, eval_rows=192),
        tokens=TokenFacts(),
        template_sha256="0" * 64,
        golden_prompts=[GoldenPrompt(messages=[{"role": "user", "content": "q"}], ids=[1])],
        stop_token_ids=[2],
        base_model=BaseModelFacts(name_or_path="models/tiny"),
        artifact="model",
        versions={"qdsft": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "trl": "1.16.0"},
        git="dc1bfa4",
        device=DeviceFacts(name="CPU, 2 threads"),
        results=ResultFacts(steps=2452, epochs=4.0, seconds_training=220.84, peak_memory_gib=1.23),
    )


def odd_rows() -> list[PredictionRow]:
    """Return rows that are hard to draw or to escape."""
    many = [f"Which is number {number}?" for number in range(1, 15)] + [
        "Sum of " + ", ".join(f"#{n}" for n in range(1, 15))
    ]
    dense = [f"Step {n} of " + " ".join(f"#{m}" for m in range(1, n)) for n in range(1, 16)]
    return [
        prediction(
            "</script><b onload='x()'>&amp; \"quoted\"", ["<i>a</i> & b", "#1 </svg>"], ["<script>alert(1)</script>"]
        ),
        prediction(
            "이모지 👩‍👩‍👧 🏳️‍🌈 그리고 긴 한국어 문장은?", ["누가 🎬 만들었나요?"], ["누가?", "#1은 누구인가요?"], "ko"
        ),
        prediction("مرحبا \u202egpj.exe", ["ما هو عدد السكان في المدينة الكبيرة؟"], ["من هو #1 العالم؟", "#1"], "ar"),
        prediction("x" * 10_000, ["y" * 10_000, "단어 " * 4000], ["긴" * 10_000]),
        prediction("many parallel", many, many[:3]),
        prediction("dense", dense, list(reversed(dense))),
        prediction("faults", ["A?", "B #1"], ["A #1 #7?", "B #3 #0", "C #1", "", "D #99999999999 #12 #4"]),
        prediction("nothing", ["A?"], []),
        prediction("endless", ["A?"], [f"Again #{n}?" for n in range(1, 500)], stopped=False),
        prediction("control \x00 \x1b \ud800 \u2028", ["a\x07"], ["b\x0c", "c\ufffe"]),
    ]


def _spoil(steps: list[str], chance: random.Random) -> list[str]:
    place = chance.randrange(len(steps))
    match chance.randrange(6):
        case 0:
            del steps[place]
        case 1:
            steps.insert(place, steps[place])
        case 2:
            steps[place] = " ".join(chance.sample(words := steps[place].split(), len(words)))
        case 3:
            steps[place] += f" (#{chance.choice([place + 1, len(steps) + 2, len(steps)])})"
        case 4:
            steps[place] = ""
        case _:
            chance.shuffle(steps)
    return steps
