"""Answer questions with a finished run: one question, a file, or the held-out rows."""
