"""What every measurement needs: clocks, memory, profilers, processes, and a record of what it depends on."""

from .arguments import SIZES, choose_device, one_of, pattern, size_of
from .clock import (
    Repeated,
    Timing,
    copy_bandwidth,
    fresh_compilers,
    interleave,
    milliseconds,
    sets_needed,
    summary,
    synchronize,
    take_turns,
    wall_seconds,
)
from .gpu_specs import GPUS, Gpu
from .inputs import loss_inputs
from .memory import extra_memory, peak_gpu_memory
from .nvidia_tools import find_tool
from .profiler import Cost, count_calls, most_expensive, profiled, write_trace
from .provenance import ROOT, Row, environment, save_json, write_json
from .subprocesses import Command, CommandResult, run_command, run_together, status_text

__all__ = [
    "GPUS",
    "ROOT",
    "SIZES",
    "Command",
    "CommandResult",
    "Cost",
    "Gpu",
    "Repeated",
    "Row",
    "Timing",
    "choose_device",
    "copy_bandwidth",
    "count_calls",
    "environment",
    "extra_memory",
    "find_tool",
    "fresh_compilers",
    "interleave",
    "loss_inputs",
    "milliseconds",
    "most_expensive",
    "one_of",
    "pattern",
    "peak_gpu_memory",
    "profiled",
    "run_command",
    "run_together",
    "save_json",
    "sets_needed",
    "size_of",
    "status_text",
    "summary",
    "synchronize",
    "take_turns",
    "wall_seconds",
    "write_json",
    "write_trace",
]
