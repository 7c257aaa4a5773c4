"""One well-known GPU for each target that kernels are compiled for, to compute the least time of a kernel from.

The numbers are the vendors' published ones, at boost clock.
"""

from typing import NamedTuple


class Gpu(NamedTuple):
    """A GPU; `warps`, `blocks` and `registers` are what one multiprocessor (compute unit) can hold."""

    name: str
    multiprocessors: int
    clock_ghz: float
    bandwidth_tb: float  # TB/s
    warps: int  # (wavefronts)
    blocks: int  # programs
    registers: int = 65536  # of 4 bytes
    lanes: int = 128  # for which a multiprocessor issues an instruction per clock
    warp_size: int = 32

    def issue_ms(self, instructions: float, pixels: int) -> float:
        """The least time that issuing so many instructions per pixel takes."""
        return instructions * pixels / (self.multiprocessors * self.lanes * self.clock_ghz * 1e9) * 1e3

    def memory_ms(self, bytes_a_pixel: float, pixels: int) -> float:
        """The least time that moving so many bytes per pixel takes."""
        return bytes_a_pixel * pixels / (self.bandwidth_tb * 1e12) * 1e3

    def resident_warps(self, registers: int, num_warps: int) -> int:
        """The warps that a multiprocessor holds of a kernel. Registers, given per lane, are allocated in eights."""
        by_registers = self.registers // (self.warp_size * -(-max(registers, 1) // 8) * 8)
        return min(self.warps, self.blocks * num_warps, by_registers)


GPUS = {
    "sm_80": Gpu("A100 80GB", 108, 1.41, 2.04, 64, 32),
    "sm_86": Gpu("RTX 3090", 82, 1.70, 0.94, 48, 16),
    "sm_89": Gpu("RTX 4090", 128, 2.52, 1.01, 48, 24),
    "sm_90": Gpu("H200", 132, 1.98, 4.80, 64, 32),
    "sm_100": Gpu("B200", 148, 1.97, 8.00, 64, 32),
    "sm_120": Gpu("RTX 5090", 170, 2.41, 1.79, 48, 24),
    "gfx90a": Gpu("MI250X, one die", 110, 1.70, 1.64, 32, 32, 131072, 64, 64),
    "gfx942": Gpu("MI300X", 304, 2.10, 5.30, 32, 32, 131072, 64, 64),
}
