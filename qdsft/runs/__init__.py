"""The run directory: file names, manifest, checkpoints, results, model card, and the logs that let a command resume."""
