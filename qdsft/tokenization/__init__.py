"""Chat template to token ids, labels, lengths, packing, and prepared Arrow data."""
