"""Coverage-guided fuzzing of what reads files, by hand: `pip install atheris`, then

    python tests/fuzz/fuzz_atheris.py jsonl|json|csv|parquet|yaml -max_total_time=60

It stops at the first exception that is no UserError and writes the input to a file `crash-...`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["qdsft", "json", "csv", "yaml"]):
    from qdsft.data.checks.check_files import Inputs, check_files
    from qdsft.data.checks.problems import Tally
    from qdsft.errors import UserError
    from qdsft.recipe import strict_yaml

KIND = sys.argv.pop(1)
FILE = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.{KIND}"


def one_input(data: bytes) -> None:
    """Called with each input."""
    if KIND == "yaml":
        with contextlib.suppress(UserError):
            strict_yaml.load(data.decode("utf-8", "replace"), "r.yaml")
        return
    FILE.write_bytes(data)
    for _ in check_files(Inputs((FILE,)), Tally()):
        pass


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
