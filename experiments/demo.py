"""The demo of a clone: `seqssvae demo`, with its flags.

python experiments/demo.py
"""

import sys

from seqssvae.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
