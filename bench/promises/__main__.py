"""`python -m bench.promises IMPL DTYPE`: prints the worst errors as one line of JSON; run as a separate process."""

import argparse
import json

import torch

from .golden_losses import golden_errors

parser = argparse.ArgumentParser(prog="python -m bench.promises", description=__doc__)
parser.add_argument("impl", choices=("reference", "blocked", "native", "triton"))
parser.add_argument("dtype", choices=("float32", "float64"))
args = parser.parse_args()
print(json.dumps(golden_errors(args.impl, getattr(torch, args.dtype))._asdict()))
