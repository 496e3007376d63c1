"""`python -m qdsft` is the command line too."""

import sys

from qdsft.cli import main

sys.exit(main())
