"""Make the page small: short names in scripts, no spaces that nobody needs. What it does stays the same."""

import re

# Around these, neither shading language needs a space or a new line. A line that begins with # ends where it does.
_SPACES = re.compile(r"\s*([-+*/=<>(),;{}&|?:])\s*")
_DIRECTIVE = re.compile(r"(#.*\n)")


def is_installed() -> bool:
    """Whether there is a minifier for scripts, style sheets and markup."""
    try:
        import minify  # noqa: F401  the package tdewolff-minify
    except ModuleNotFoundError:
        return False
    return True


def small_page(text: str) -> str:
    """A page with its styles and scripts, if a minifier is installed; else as it is."""
    return _minified("text/html", text)


def small_script(text: str) -> str:
    """A script that uses no name of others and gives none, if a minifier is installed; else as it is."""
    return _minified("application/javascript", text)


def small_shader(text: str) -> str:
    """A shader without comments."""
    parts = _DIRECTIVE.split(text)
    return "".join(part if part.startswith("#") else _SPACES.sub(r"\1", part) for part in parts)


def _minified(kind: str, text: str) -> str:
    if not is_installed():
        return text
    import minify

    return minify.string(kind, text)
