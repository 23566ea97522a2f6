"""``python -m curvae``: the command line."""

import sys

from curvae.cli import main

if __name__ == "__main__":
    sys.exit(main())
