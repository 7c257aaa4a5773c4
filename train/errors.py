"""The mistake a user can mend, and the line on stderr."""

import sys


class TrainError(Exception):
    """One line: the file or argument, what was expected, what came, what to do."""


def warn(text: str) -> None:
    """One line on stderr."""
    print(f"train: {text}", file=sys.stderr, flush=True)
