"""`python -m bench profile|convolutions`: where the time of a call goes, kernel by kernel."""
