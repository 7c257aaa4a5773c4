"""`python -m bench tritons|environments`: tries the supported versions, which are listed in `tried.py`."""
