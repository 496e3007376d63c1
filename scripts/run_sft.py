"""What `accelerate launch` is given: the same as `qdsft train`, in every process of the launch."""

import sys

from qdsft.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
