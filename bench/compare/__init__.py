"""`python -m bench loss|retinex|enhance|step`: one operation by every provider, compared and timed.

`cases.py` says which providers there are, and how to add one.
"""

from .cases import DTYPES, OP_DTYPES, PROVIDERS, TOLERANCE, Case, evaluate, function_of, part_call, worst_error
from .cli import NETWORK_OPS, main, missing_package

__all__ = [
    "DTYPES",
    "NETWORK_OPS",
    "OP_DTYPES",
    "PROVIDERS",
    "TOLERANCE",
    "Case",
    "evaluate",
    "function_of",
    "main",
    "missing_package",
    "part_call",
    "worst_error",
]
