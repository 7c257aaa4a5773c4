"""`python -m bench all|gpu`: the commands of the other rooms, one after another."""
