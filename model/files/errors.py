"""Errors about files, one line each: which file, why, and what to do."""


class ImageError(ValueError):
    """A file cannot be read or written as a picture; the message is one line that says which and why."""


def damaged(path: object, reason: str) -> ImageError:
    """The error for a file whose content breaks the rules of its format."""
    return ImageError(f"{path}: truncated or damaged ({reason}); replace it with a whole copy")


def reason_of(error: BaseException) -> str:
    """The reason that an error gives, on one line: without number and file name if the system or FFmpeg raised it."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
