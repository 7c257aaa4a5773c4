"""One well-known GPU for each target that kernels are compiled for: what its floors are computed from.

Figures are the vendors' published ones, at boost clock. `lanes` are the lanes whose instructions a multiprocessor
(compute unit) issues a clock; `warps`, `blocks` and `registers` what it holds: warps (wavefronts), programs, and
registers of 4 bytes a lane.
"""

from typing import NamedTuple


class Gpu(NamedTuple):
    name: str
    multiprocessors: int
    clock_ghz: float
    bandwidth_tb: float
    warps: int
    blocks: int
    registers: int = 65536
    lanes: int = 128
    warp_size: int = 32

    def issue_ms(self, instructions: float, pixels: int) -> float:
        """Time that issuing `instructions` a pixel takes at least."""
        return instructions * pixels / (self.multiprocessors * self.lanes * self.clock_ghz * 1e9) * 1e3

    def memory_ms(self, bytes_a_pixel: float, pixels: int) -> float:
        """Time that moving `bytes_a_pixel` takes at least."""
        return bytes_a_pixel * pixels / (self.bandwidth_tb * 1e12) * 1e3

    def resident_warps(self, registers: int, num_warps: int) -> int:
        """Warps a multiprocessor holds of a kernel with so many registers a lane, which come in eights."""
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
