"""The steps of a run, in the order they run: what the command line and the jobs call."""
