"""Runs pip to install other versions, and tells a missing network from other errors."""

import re
import subprocess
from pathlib import Path

# What pip prints where it cannot reach an index, after retries or with PIP_NO_INDEX.
_NO_NETWORK = re.compile(
    r"from versions: none|NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|No route"
)


class NoNetworkError(Exception):
    """Nothing can be fetched here; the message is pip's last line."""


def install(python: str | Path, *arguments: str | Path) -> None:
    """Runs `python -m pip install ...`. Raises NoNetworkError, or RuntimeError with pip's last line."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("[notice]")]
        last = errors[-1].removeprefix("ERROR: ") if errors else f"exit status {done.returncode}"
        raise (NoNetworkError if _NO_NETWORK.search(done.stderr) else RuntimeError)(last)
