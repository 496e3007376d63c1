"""`python -m qdsft` is the command line too."""

import sys

from qdsft.cli.main import main

sys.exit(main())
