"""`python -m bench COMMAND ...`"""

import importlib
import os
import sys

# For each command: the module with its `main`, and what it does.
COMMANDS = {
    "all": (
        "suite.run_all",
        "kernels, loss, retinex, enhance and step on this machine, compared with the bounds for a GPU",
    ),
    "convolutions": ("profile.convolutions", "the convolutions of training from 16 to 16 channels: kernels and times"),
    "demo": ("demo", "train on low-light photographs, enhance them, show the results"),
    "environments": (
        "versions.environments",
        "run the core tests in whole environments, from the oldest supported releases to the newest",
    ),
    "enhance": ("compare.cli", "one picture enhanced by every provider"),
    "exposing": (
        "networks.exposure_cost",
        "the time to expose a picture compared with the published division, and of the filter with OpenCV's",
    ),
    "figures": ("promises.cli", "measure every number that the project promises, and compare it with its bound"),
    "gain": ("networks.training_gain", "what the official code's training step gains with each change"),
    "gpu": (
        "suite.run_gpu",
        "everything that only a GPU can show, in stages: parity, speed, tests, memory checks, ncu",
    ),
    "kernels": ("kernels.cli", "compile the kernels without a GPU: registers, spills, instructions"),
    "loss": ("compare.cli", "the loss by every provider: parity, time, bandwidth, memory"),
    "page": ("networks.page_speed", "the page for browsers: seconds for a picture by each engine, and memory"),
    "profile": (
        "profile.cli",
        "where a call's time goes, fused and reference: traces, the ten most expensive kernels, ncu",
    ),
    "quality": ("quality.cli", "write docs/quality.md: pictures of many kinds, enhanced and measured"),
    "report": (
        "report.performance_page",
        "write docs/performance.md, its pictures and the README's chart from bench/results",
    ),
    "retinex": ("compare.cli", "the Retinex step by every provider, in the same way"),
    "sweep": ("kernels.launch_sweep", "time other launches of each kernel on a GPU"),
    "step": ("compare.cli", "the whole training step by every provider, its parts, and the largest image that fits"),
    "tritons": ("versions.tritons", "compile the kernels with every supported Triton and compare the instructions"),
}


def main() -> int:
    """Runs a command, whose module is imported only then."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # set before torch is loaded; else every profile prints a line
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print("python -m bench COMMAND ...; each takes --help\n")
        print("\n".join(f"  {name:14}{text}" for name, (_, text) in COMMANDS.items()))
        return 0
    from model.streams import own_streams  # imports torch, which --help does not need

    own_streams()
    if command not in COMMANDS:
        print(f"{command}: no such command; use one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[command]
    # One module has the four operations, and takes the operation as its first argument.
    arguments = [command, *rest] if module == "compare.cli" else rest
    return importlib.import_module(f".{module}", __package__).main(arguments)


if __name__ == "__main__":
    sys.exit(main())
