"""`python -m bench tritons|environments`: what is supported, tried: every Triton, and whole environments."""
