"""`python -m seqssvae`."""

import sys

from seqssvae.cli import main

if __name__ == "__main__":
    sys.exit(main())
