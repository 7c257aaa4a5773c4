"""`python -m train --data DIR --out DIR`, and `python -m train plan --memory 24GiB`."""

import os
import sys
from pathlib import Path

# PyTorch asks for huge pages only if told to before its first tensor. The features of a photograph are tensors of
# 100 MB; allocating them in pages of 4 kB took a fifth of a step on a CPU.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from model.files import ImageError
from model.network import WeightsError
from model.streams import own_streams

from .arguments import parse
from .checkpoint import CONFIG
from .config import new_settings, read_json, resumed_settings
from .distributed import Elsewhere
from .errors import TrainError, warn
from .loop import train
from .signals import Stopped


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status. Every mistake of the user gives one line on stderr."""
    own_streams()
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["plan"]:
        from .memory_plan import main as plan

        return plan(argv[1:])
    given, resume, overwrite = parse(argv)
    try:
        saved = read_json(Path(given["out"]) / CONFIG) if resume else None
        settings = resumed_settings(saved, given) if saved else new_settings(given)
        train(settings, resume, overwrite)
    except (TrainError, ImageError, WeightsError) as error:
        warn(f"error: {error}")
        return 1
    except OSError as error:
        where, reason = error.filename or given["out"], error.strerror or error
        warn(f"error: {where}: expected a folder that can be written, with room; got: {reason}; what was saved stays")
        return 1
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            warn(str(stopped))
        return 128 + stopped.number
    except Elsewhere:
        return 1
    except KeyboardInterrupt:
        warn("interrupted; what was saved before is still there")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
