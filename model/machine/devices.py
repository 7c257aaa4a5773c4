"""Find a device by the name that the user gave."""

import torch


class DeviceError(ValueError):
    """There is no such device; the message says why, without naming a flag."""


def device_named(name: str) -> torch.device:
    """The device with a name: `auto` is the GPU if PyTorch finds one, else the CPU; `cuda:1` is the second GPU.

    Raises:
        DeviceError: PyTorch knows no such device, or finds fewer GPUs.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(" ".join(str(error).split())[:120]) from None
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise DeviceError(f"this PyTorch finds {gpus} GPU{'s' * (gpus != 1)}")
    return device
