"""Command lines whose mistakes are one line."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that says a mistake in one line, without the usage, and ends the program with status 2.

    Args:
        said_by: what the line begins with, before "error: ".
        options: of `argparse.ArgumentParser`, `prog` among them.
    """

    def __init__(self, said_by: str = "", **options: object):
        super().__init__(**options)
        self._said_by = said_by

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self._said_by}error: {message}; see {self.prog} --help\n")
