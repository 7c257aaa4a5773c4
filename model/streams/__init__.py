"""Robust stdout and stderr: closed pipes, unencodable names, control characters, and the output of C libraries."""

from .console import own_streams, terminal_line
from .silence import own_stderr, quiet

__all__ = ["own_stderr", "own_streams", "quiet", "terminal_line"]
