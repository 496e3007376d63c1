"""File names of a run directory."""

from __future__ import annotations

MANIFEST = "run.json"


EVAL_ROWS = "eval.jsonl"


LOG = "log.jsonl"


MERGE_FILE = "merge.json"
"""The certificate of a merged model, beside its weights."""


REPORT = "report.html"


METRICS_FILE, PREDICTIONS_FILE = "metrics.json", "predictions.jsonl"
