"""BREAK's official metrics: normalized exact match and graph edit distance. Requires the extra `break`."""
