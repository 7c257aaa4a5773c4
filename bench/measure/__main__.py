"""`python -m bench.measure MODULE:FUNCTION ARGUMENTS`: the separate process in which `extra_memory` measures."""

import json
import sys

from .memory import PREFIX, measure_here

print(f"{PREFIX}{measure_here(sys.argv[1], json.loads(sys.argv[2]))}")
