"""What every measurement needs: clocks, memory, profilers, processes, the facts that a figure depends on."""

from .arguments import SIZES, choose_device, one_of, size_of
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
from .profiler import Cost, count_calls, dearest, profiled, write_trace
from .provenance import ROOT, Row, environment, write_json
from .subprocesses import Result, Step, run_step, run_together, status_text

__all__ = [
    "GPUS",
    "ROOT",
    "SIZES",
    "Cost",
    "Gpu",
    "Repeated",
    "Result",
    "Row",
    "Step",
    "Timing",
    "choose_device",
    "copy_bandwidth",
    "count_calls",
    "dearest",
    "environment",
    "extra_memory",
    "find_tool",
    "fresh_compilers",
    "interleave",
    "loss_inputs",
    "milliseconds",
    "one_of",
    "peak_gpu_memory",
    "profiled",
    "run_step",
    "run_together",
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
