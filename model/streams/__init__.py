"""What is written to stdout and stderr: lines that nobody reads, and those of C libraries."""

from .console import one_line_of, own_streams
from .silence import own_stderr, quiet

__all__ = ["one_line_of", "own_stderr", "own_streams", "quiet"]
