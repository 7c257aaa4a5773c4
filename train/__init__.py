"""Training: from a folder of dark photographs to a weight file. `python -m train --help`."""
