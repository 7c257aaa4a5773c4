"""SCI's networks, their weights, and pictures from files and back.

A name is loaded when it is first used, with the folder that defines it. Importing one folder thus loads no other: a
command that only writes files needs no package that decodes pictures.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .enhancement import Enhanced, Enhancer
    from .files import ImageError, find_images
    from .images import Metadata, Picture, quantize, read_image, write_image
    from .network import (
        DEFAULT_WEIGHTS,
        CalibrateNetwork,
        EnhanceNetwork,
        FinetuneNetwork,
        Network,
        Stages,
        WeightsError,
        enhance_image,
        fold,
        load_weights,
        save_weights,
    )

_ROOMS = {
    "enhancement": ("Enhanced", "Enhancer"),
    "files": ("ImageError", "find_images"),
    "images": ("Metadata", "Picture", "quantize", "read_image", "write_image"),
    "network": (
        *("CalibrateNetwork", "DEFAULT_WEIGHTS", "EnhanceNetwork", "FinetuneNetwork", "Network", "Stages"),
        *("WeightsError", "enhance_image", "fold", "load_weights", "save_weights"),
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "DEFAULT_WEIGHTS",
    "CalibrateNetwork",
    "EnhanceNetwork",
    "Enhanced",
    "Enhancer",
    "FinetuneNetwork",
    "ImageError",
    "Metadata",
    "Network",
    "Picture",
    "Stages",
    "WeightsError",
    "enhance_image",
    "find_images",
    "fold",
    "load_weights",
    "quantize",
    "read_image",
    "save_weights",
    "write_image",
]


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ROOM_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
