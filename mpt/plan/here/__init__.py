"""What a run takes on this machine, and whether it would run: the parts of a dry run."""
