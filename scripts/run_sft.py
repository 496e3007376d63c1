"""The script for `accelerate launch`: run `qdsft train` in every process of the launch."""

import sys
from pathlib import Path

# Works in a checkout with the requirements installed, without installing the package itself.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qdsft.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
