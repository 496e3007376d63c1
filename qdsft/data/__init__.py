"""Rows: read from any file with file and line, validated, split without leaks, and turned into chat messages."""
