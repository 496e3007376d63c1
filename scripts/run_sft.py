"""What `accelerate launch` is given: the same as `qdsft train`, in every process of the launch."""

import sys
from pathlib import Path

# A checkout with the requirements installed is enough: the package itself need not be.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qdsft.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
