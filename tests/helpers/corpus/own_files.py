"""Cases of files that qdsft wrote itself: run.json, results, held-out rows, the certificate of a merge, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator

from helpers.corpus.case import (
    WRONG,
    Case,
    Damage,
    edited,
    removed,
    replaced,
    spoiled,
    spoiled_json,
    together,
    with_value,
    without,
)

RUN = "runs/adapter"
READERS: tuple[tuple[str, ...], ...] = (
    ("decompose", RUN, "a?"),
    ("evaluate", RUN),
    ("merge", RUN, "--output", "out"),
    ("push", RUN, "--repo-id", "a/b"),
    ("serve", RUN),
    ("demo", RUN),
    ("export-gguf", RUN, "--output", "out.gguf"),
)
MANIFEST_KEYS = (
    ("state",),
    ("recipe_path",),
    ("recipe",),
    ("recipe", "model"),
    ("recipe", "model", "name_or_path"),
    ("recipe", "data"),
    ("recipe", "training"),
    ("recipe", "training", "max_length"),
    ("recipe", "lora"),
    ("recipe", "lora", "r"),
    ("recipe", "quantization"),
    ("recipe", "model", "dtype"),
    ("recipe", "model", "attn_implementation"),
    ("recipe", "prompt"),
    ("recipe", "prompt", "user"),
    ("recipe", "evaluation"),
    ("recipe", "evaluation", "max_new_tokens"),
    ("origins",),
    ("fingerprint",),
    ("data",),
    ("data", "eval_rows"),
    ("tokens",),
    ("template_sha256",),
    ("golden_prompts",),
    ("golden_prompts", 0),
    ("golden_prompts", 0, "ids"),
    ("golden_prompts", 0, "messages"),
    ("stop_token_ids",),
    ("base_model",),
    ("base_model", "name_or_path"),
    ("base_model", "config_sha256"),
    ("artifact",),
    ("versions",),
    ("git",),
    ("device",),
    ("results",),
    ("results", "steps"),
    ("results", "seconds_training"),
)
FIELDS = ("question", "gold", "sub_questions", "problems", "text", "scores", "language", "stopped")


def _manifests() -> Iterator[Case]:
    file = f"{RUN}/run.json"
    for number, keys in enumerate(MANIFEST_KEYS):
        for offset in (0, 4):
            value = WRONG[(number + offset) % len(WRONG)]
            name = f"{'.'.join(map(str, keys))} = {value!r:.20}"
            damage = with_value(file, keys, value)
            yield Case("run.json", f"runs: {name}", ("runs", "runs"), damage, (), 0, "whole")
            reader = READERS[number % 3]
            yield Case("run.json", f"{reader[0]}: {name}", reader, damage, (RUN, "config"), None)
    for name, damage in spoiled_json(file).items():
        yield Case("run.json", f"runs: {name}", ("runs", "runs"), damage, (), 0, "whole")
        for reader in READERS if name in {"cut", "missing"} else READERS[:2]:
            yield Case("run.json", f"{reader[0]}: {name}", reader, damage, (RUN,))
        yield Case(
            "run.json",
            f"--overwrite: {name}",
            ("train", "recipe.yaml", f"training.output_dir={RUN}", "--overwrite"),
            damage,
            (RUN,),
        )


def _results() -> Iterator[Case]:
    file = f"{RUN}/metrics.json"
    metrics = {name: with_value(file, ("tuned",), value) for name, value in zip("abcdefghi", WRONG, strict=True)}
    for key in ("samples", "groups", "intervals", "loss", "exact_match", "seconds"):
        metrics |= {f"{key} = {value!r:.20}": with_value(file, ("tuned", key), value) for value in WRONG[2:6:2]}
    for name, damage in {**spoiled_json(file), **metrics}.items():
        yield Case("metrics.json", f"runs: {name}", ("runs", "runs"), damage, (), 0, "whole")
    for name in ("cut", "a list", "a text"):
        yield Case(
            "metrics.json",
            f"merge: {name}",
            ("merge", RUN, "--output", "out", "--no-check"),
            spoiled_json(file)[name],
            ("metrics.json",),
        )
    rows = f"{RUN}/predictions.jsonl"
    compare = ("compare", RUN, "part/eval.jsonl")
    same = ("compare", RUN, "other.jsonl")

    def of_row(field: str, value: object) -> Damage:
        def change(content: bytes) -> bytes:
            first, *rest = content.splitlines(keepends=True)
            return json.dumps({**json.loads(first), field: value}).encode() + b"\n" + b"".join(rest)

        return together(replaced("other.jsonl", b""), edited(rows, change))

    for name, damage in spoiled_json(rows).items():
        yield Case("predictions.jsonl", name, compare, damage, ("predictions.jsonl", "eval.jsonl", RUN))
    for number, field in enumerate(FIELDS):
        for value in (WRONG[number % len(WRONG)], WRONG[(number + 3) % len(WRONG)]):
            yield Case(
                "predictions.jsonl",
                f"{field} = {value!r:.20}",
                same,
                of_row(field, value),
                ("predictions.jsonl", "other.jsonl"),
                1,
            )
    for name, scores in (
        ("no scores", "{}"),
        ("null scores", '{"exact_match": null}'),
        ("text", '{"exact_match": "1"}'),
    ):
        line = f'{{"question": "a?", "gold": ["b?"], "scores": {scores}}}\n'
        both = together(replaced("one.jsonl", line), replaced("two.jsonl", line))
        yield Case("predictions.jsonl", name, ("compare", "one.jsonl", "two.jsonl"), both, ("one.jsonl",), None)
    held_out = f"{RUN}/eval.jsonl"
    for name, damage in spoiled(held_out).items():
        yield Case("eval.jsonl", name, ("evaluate", RUN), damage, ("eval.jsonl",))
    for value in ('{"row": 1}', '{"row": {}, "messages": 3, "completion": ""}', "[]"):
        yield Case("eval.jsonl", value, ("evaluate", RUN), replaced(held_out, value + "\n"), ("eval.jsonl",))


def _certificates() -> Iterator[Case]:
    file = "runs/merged/model/merge.json"
    serve = ("serve", "runs/merged", "--port", "1")
    for name, damage in spoiled_json(file).items():
        if name != "missing":
            yield Case("merge.json", f"serve: {name}", serve, damage, ("merge.json",))
            yield Case("merge.json", f"runs: {name}", ("runs", "runs"), damage, (), 0, "whole")
    for key in ("passed", "failed", "candidates", "thresholds", "example", "files"):
        yield Case("merge.json", f"{key} = 7", serve, with_value(file, (key,), 7), ("merge.json",))


def _checkpoints() -> Iterator[Case]:
    resume = ("train", "recipe.yaml", "--resume")
    newest = "part/checkpoint-3"
    files = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors", "trainer_state.json")
    for file in files:
        for name, damage in spoiled(f"{newest}/{file}").items():
            if name in {"missing", "empty", "cut", "binary", "zeros", "a folder"}:
                yield Case("checkpoint", f"{file}: {name}", resume, damage, (), 0, "part/checkpoint-2")
    for name, value in (
        ("global_step", "x"),
        ("global_step", 99),
        ("log_history", 3),
        ("max_steps", -1),
        ("epoch", []),
    ):
        damage = with_value(f"{newest}/trainer_state.json", (name,), value)
        yield Case("checkpoint", f"{name} = {value}", resume, damage, (), 0, "part/checkpoint-2")
    every = together(*(replaced(f"part/checkpoint-{step}/optimizer.pt", b"x") for step in (2, 3)))
    yield Case("checkpoint", "all optimizers", resume, every, ("part",))
    yield Case(
        "checkpoint",
        "all missing",
        resume,
        together(removed(newest), removed("part/checkpoint-2")),
        (),
        0,
        "first step",
    )
    for name, keys in (("no log", ("log_history",)), ("no step", ("global_step",))):
        yield Case("checkpoint", name, resume, without(f"{newest}/trainer_state.json", keys), (), 0)
    for name, damage in spoiled_json("part/run.json").items():
        yield Case("checkpoint", f"run.json: {name}", resume, damage, ("part",))


def own_file_cases() -> Iterator[Case]:
    """Yield the cases of qdsft's own files."""
    yield from _manifests()
    yield from _results()
    yield from _certificates()
    yield from _checkpoints()
