"""`python -m bench COMMAND ...`"""

import os
import sys

COMMANDS = {
    "all": "kernels, loss, retinex, enhance and step on this machine, beside the bounds for a GPU",
    "convolutions": "the 16-to-16 convolutions of training: kernels and times",
    "demo": "train on low-light photographs, enhance them, show them",
    "environments": "the core tests in whole environments, from the oldest releases supported to the newest",
    "enhance": "one picture enhanced by every provider",
    "exposing": "what exposing a picture costs beside the published division, and the filter beside OpenCV's",
    "figures": "measure every figure the project promises, beside its bound",
    "gain": "what the official code's training step gains, change by change",
    "gpu": "what only a GPU can show, in stages: parity, speed, tests, memory checks, ncu",
    "kernels": "compile the kernels for GPUs that need not be present: registers, spills",
    "loss": "the loss by every provider: parity, time, bandwidth, memory",
    "profile": "one call of a case, fused beside reference: traces, the ten dearest kernels, ncu",
    "quality": "write docs/quality.md: pictures of many kinds, enhanced and measured",
    "report": "write the README's performance section and its pictures from bench/results",
    "retinex": "the same of the Retinex step",
    "sweep": "other launches of each kernel, timed on a GPU",
    "step": "the whole training step by every provider, its parts, and the largest image that fits",
    "tritons": "compile the kernels with every supported Triton, and compare the instructions",
}


def main() -> int:
    """Dispatch; a command's module is imported only when it is called."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch is loaded: a line for every profile otherwise
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print("python -m bench COMMAND ...; each takes --help\n")
        print("\n".join(f"  {name:14}{text}" for name, text in COMMANDS.items()))
        return 0
    from model.console import own_streams  # with all of torch, which --help does without

    own_streams()
    if command in ("loss", "retinex", "enhance", "step"):
        from .compare import main as run

        rest = [command, *rest]
    elif command == "all":
        from .suite import main as run
    elif command == "convolutions":
        from .convolutions import main as run
    elif command == "demo":
        from .demo import main as run
    elif command == "environments":
        from .environments import main as run
    elif command == "exposing":
        from .exposing import main as run
    elif command == "figures":
        from .figures import main as run
    elif command == "gain":
        from .gain import main as run
    elif command == "gpu":
        from .gpu import main as run
    elif command == "kernels":
        from .kernels import main as run
    elif command == "profile":
        from .profile import main as run
    elif command == "quality":
        from .quality import main as run
    elif command == "report":
        from .report import main as run
    elif command == "sweep":
        from .sweep import main as run
    elif command == "tritons":
        from .tritons import main as run
    else:
        print(f"{command}: no such command; use one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return run(rest)


if __name__ == "__main__":
    sys.exit(main())
