"""`python -m bench kernels|sweep`: Triton kernels compiled without a GPU and counted; other launches, timed."""
