"""Trace the memory of a recipe's own step on fake tensors, which have sizes and no contents."""
