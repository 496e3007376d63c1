"""Scores over (question, gold, predicted): pure functions; docs/METRICS.md explains each."""
