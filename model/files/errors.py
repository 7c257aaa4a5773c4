"""What is said of files that cannot be used: one line that says which, why, and what to do."""


class ImageError(ValueError):
    """A file that cannot be read or written as a picture; the message is one line that says which and why."""


def damaged(path: object, reason: str) -> ImageError:
    """The error of a file that is not as its format has it."""
    return ImageError(f"{path}: truncated or damaged ({reason}); replace it with a whole copy")


def one_line(error: Exception) -> str:
    """The message of an error, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
