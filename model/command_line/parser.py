"""An argument parser that reports a mistake on one line."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake on one line, without the usage, and ends the program with status 2.

    Args:
        said_by: the beginning of that line, before "error: ".
        prog, description, epilog, argument_default, allow_abbrev: as for `argparse.ArgumentParser`.
    """

    def __init__(
        self,
        said_by: str = "",
        *,
        prog: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
        argument_default: object = None,
        allow_abbrev: bool = True,
    ):
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            argument_default=argument_default,
            allow_abbrev=allow_abbrev,
        )
        self._said_by = said_by

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self._said_by}error: {message}; see {self.prog} --help\n")
