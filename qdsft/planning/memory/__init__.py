"""The model of peak memory, component by component."""
