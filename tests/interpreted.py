"""Triton's interpreter without the work that it does again for every function that a kernel calls.

Before a kernel runs, and before each function that it calls does, the interpreter goes through all of triton.language
and puts its own operations in the place of the compiler's. Within a kernel they are in place: going through it again
changes nothing, and takes as long as the arithmetic of tests' small images.
"""

from collections.abc import Callable


def patch_once() -> None:
    """Leaves out what is in place already, where this Triton has the functions that it takes."""
    try:
        import triton.language as tl
        from triton.runtime import interpreter

        original, nothing_to_restore = interpreter._patch_lang, interpreter._LangPatchScope
    except (ImportError, AttributeError):  # no Triton, or another one than was read: its own way, which takes longer
        return
    interpreter._patch_lang = _unless_patched(original, nothing_to_restore, tl)


def _unless_patched(original: Callable, nothing_to_restore: Callable, tl) -> Callable:
    def patch(function):
        languages = [value for value in function.__globals__.values() if value is tl or value is tl.core]
        if languages and not any(tl.core.is_builtin(language.load) for language in languages):
            return nothing_to_restore()
        return original(function)

    return patch
