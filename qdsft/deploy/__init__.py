"""Merge an adapter, push to the Hub, serve, export to GGUF, and the demo page."""
