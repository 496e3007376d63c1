"""Sweeps: train a recipe with every combination of some values. Used by scripts/sweep.py alone."""
