"""Read, score, compare and report the predictions of any system. No torch."""
