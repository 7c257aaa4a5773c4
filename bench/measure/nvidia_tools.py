"""NVIDIA's command-line tools."""

import os
import shutil


def find_tool(name: str) -> str | None:
    """The path of a tool that is on PATH or in the folder of the CUDA toolkit; None where there is none."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [os.environ.get("PATH", ""), *(os.path.join(home, "bin") for home in homes if home)]
    return shutil.which(name, path=os.pathsep.join(folders))
