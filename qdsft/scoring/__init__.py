"""Predictions beside gold answers: rows, files of them, partial ones, and two systems compared."""
