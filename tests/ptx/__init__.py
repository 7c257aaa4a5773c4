"""The compiled kernels without a GPU: PTX, as Triton makes it for an NVIDIA GPU, executed on a CPU.

    parse, instructions, execute    an executor of PTX: all threads of many programs at once
    arithmetic, memory              what numpy computes otherwise than the PTX ISA; what may be read and written
    gpu                             lets launchers and Triton's own JIT run on CPU tensors as on a GPU, down to PTX
    process                         both in a process of their own: in that of the tests, kernels are interpreted

What is found beside wrong numbers, as a `Fault` that names the instruction and its line in Python: accesses outside
the tensors or not aligned to their size, reads of what nobody wrote, elements of a result that nobody writes, races
between threads, shuffles and barriers that not all their threads reach. What cannot be found: faults of ptxas, of the
launch itself, of ROCm; and nothing is learned about speed.
"""
