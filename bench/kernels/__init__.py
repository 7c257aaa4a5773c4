"""`python -m bench kernels|sweep`: the kernels as they are launched, compiled, counted, timed otherwise."""
