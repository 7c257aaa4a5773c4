"""How much memory is free, and sizes of memory as they are written on a command line."""

import argparse
import os
import re

import torch


def free_memory(device: torch.device | str) -> int:
    """Free memory in bytes; if the system does not tell, half of its memory, else 2 GiB."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            values = dict(line.split(":") for line in file)
        return int(values["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (AttributeError, OSError, ValueError):
            return 2 << 30


def memory_size(text: str) -> int:
    """The bytes of a size such as 24GB, 24 GiB, 512MB or 2T; the `type` of an argument.

    GB is 10^9 bytes and GiB 2^30, and likewise for the other units; a single letter is the decimal unit. A graphics
    card that is sold with 24 GB has 24 GiB.

    Raises:
        argparse.ArgumentTypeError: the text is not a size, or 0.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([KMGT])(i?)B?", text.strip(), re.IGNORECASE)
    if not found or (found[3] and not text.strip().lower().endswith("b")) or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"expected a size such as 24GiB (2^30 bytes) or 24GB (10^9); got {text!r}")
    return round(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper()))
