"""`python -m bench all|gpu`: the other measuring commands, one after another."""
