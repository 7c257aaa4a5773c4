"""The devices of this machine, and how much memory is free."""

from .devices import DeviceError, device_named
from .memory import free_memory, memory_size

__all__ = ["DeviceError", "device_named", "free_memory", "memory_size"]
