"""``python -m memorization_index``: the command line."""

import sys

from memorization_index.cli import main

if __name__ == "__main__":
    sys.exit(main())
