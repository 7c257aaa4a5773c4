"""The error for mistakes that a user can correct, and the line on stderr."""

import sys


class TrainError(Exception):
    """The message is one line: the file or argument, what was expected, what came, and what to do."""


def warn(text: str) -> None:
    """Print one line on stderr."""
    print(f"train: {text}", file=sys.stderr, flush=True)
