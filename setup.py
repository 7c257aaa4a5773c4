"""Packaging of the library: only `sci_kernels*` is installed; `model`, `train` and `bench` run from a clone."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
# Read, not imported: importing would need torch where only a wheel is being built.
VERSION = re.search(r'^__version__ = "([^"]+)"', (ROOT / "sci_kernels/__init__.py").read_text("utf-8"), re.M).group(1)
# Of PyTorch and Triton the oldest releases that the kernels are tried with.
BOUNDS = re.findall(r'Supported\("\w+", "([\d.]+)"', (ROOT / "sci_kernels/versions.py").read_text("utf-8"))
OLDEST_TORCH, OLDEST_TRITON = BOUNDS
README = ROOT / "README.md"

# Triton publishes wheels for these platforms; everywhere else the library runs without it.
HAS_TRITON = 'platform_system == "Linux" and (platform_machine == "x86_64" or platform_machine == "aarch64")'

MODEL = ["pillow>=11", "safetensors>=0.5", "tqdm>=4.66"]
TRAIN = [*MODEL, "tensorboard>=2.18"]
EVALUATE = [*TRAIN, "scikit-image>=0.25"]
BENCH = [*EVALUATE, "matplotlib>=3.10"]
VIDEO = [*MODEL, "av>=18"]
# 16-bit color of PNG and TIFF, HEIC, raw files, JPEG XL.
FORMATS = [*MODEL, "imagecodecs>=2025.3", "pillow-heif>=1.0", "rawpy>=0.25", "pillow-jxl-plugin>=1.3"]
ONNX = [*MODEL, "onnx>=1.20", "onnxruntime>=1.24", "onnxscript>=0.7"]
# Makes the page small, and drives a browser, which must be there already: the page is tried in it before it is written.
PAGE = [*MODEL, "playwright>=1.55", "tdewolff-minify>=2.24"]
NIQE = ["pyiqa==0.1.16"]  # large, for one optional figure: no other extra asks for it
TESTS = ["tifffile>=2025.1", "pytest>=8", "pytest-benchmark>=5", "pytest-timeout>=2.3", "pytest-xdist>=3.6"]
TESTS += ["axe-playwright-python>=0.1.4"]
# These two need Python 3.11. On 3.10 the tests that use them are skipped.
NEWER = [f'{need}; python_version >= "3.11"' for need in (*VIDEO, *ONNX) if need not in MODEL]
DEV = [*BENCH, *NEWER, *FORMATS, *TESTS, "ruff>=0.12", "mypy>=1.19", "deno>=2.5", *PAGE]

setup(
    name="sci-kernels",
    version=VERSION,
    description="Fused operators for self-calibrated illumination (SCI): low-light losses and the Retinex step",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license_expression="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["sci_kernels", "sci_kernels.*"]),
    package_data={"sci_kernels": ["py.typed", "native/csrc/*.c", "native/csrc/*.h"]},
    zip_safe=False,
    install_requires=[f"torch>={OLDEST_TORCH}", "numpy>=1.26", f"triton>={OLDEST_TRITON}; {HAS_TRITON}"],
    extras_require={"model": MODEL, "train": TRAIN, "evaluate": EVALUATE, "niqe": NIQE, "bench": BENCH, "dev": DEV}
    | {"video": VIDEO, "formats": FORMATS, "onnx": ONNX, "page": PAGE},
)
