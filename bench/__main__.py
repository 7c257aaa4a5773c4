"""`python -m bench COMMAND ...`"""

import importlib
import os
import sys

# The module that has the `main` of a command, and what the command does.
COMMANDS = {
    "all": ("suite.run_all", "kernels, loss, retinex, enhance and step on this machine, beside the bounds for a GPU"),
    "convolutions": ("profile.convolutions", "the 16-to-16 convolutions of training: kernels and times"),
    "demo": ("demo", "train on low-light photographs, enhance them, show them"),
    "environments": (
        "versions.environments",
        "the core tests in whole environments, from the oldest releases supported to the newest",
    ),
    "enhance": ("compare.cli", "one picture enhanced by every provider"),
    "exposing": (
        "networks.exposure_cost",
        "what exposing a picture costs beside the published division, and the filter beside OpenCV's",
    ),
    "figures": ("promises.cli", "measure every figure the project promises, beside its bound"),
    "gain": ("networks.training_gain", "what the official code's training step gains, change by change"),
    "gpu": ("suite.run_gpu", "what only a GPU can show, in stages: parity, speed, tests, memory checks, ncu"),
    "kernels": ("kernels.cli", "compile the kernels for GPUs that need not be present: registers, spills"),
    "loss": ("compare.cli", "the loss by every provider: parity, time, bandwidth, memory"),
    "profile": ("profile.cli", "one call of a case, fused beside reference: traces, the ten dearest kernels, ncu"),
    "quality": ("quality.cli", "write docs/quality.md: pictures of many kinds, enhanced and measured"),
    "report": ("report.performance_page", "write the README's performance section and its pictures from bench/results"),
    "retinex": ("compare.cli", "the same of the Retinex step"),
    "sweep": ("kernels.launch_sweep", "other launches of each kernel, timed on a GPU"),
    "step": ("compare.cli", "the whole training step by every provider, its parts, and the largest image that fits"),
    "tritons": ("versions.tritons", "compile the kernels with every supported Triton, and compare the instructions"),
}


def main() -> int:
    """Dispatch; a command's module is imported only when it is called."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch is loaded: a line for every profile otherwise
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print("python -m bench COMMAND ...; each takes --help\n")
        print("\n".join(f"  {name:14}{text}" for name, (_, text) in COMMANDS.items()))
        return 0
    from model.streams import own_streams  # with all of torch, which --help does without

    own_streams()
    if command not in COMMANDS:
        print(f"{command}: no such command; use one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[command]
    # One module serves the four operations, which it takes as its first argument.
    arguments = [command, *rest] if module == "compare.cli" else rest
    return importlib.import_module(f".{module}", __package__).main(arguments)


if __name__ == "__main__":
    sys.exit(main())
