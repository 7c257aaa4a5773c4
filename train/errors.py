"""The mistake a user can mend."""


class TrainError(Exception):
    """One line: the file or argument, what was expected, what came, what to do."""
