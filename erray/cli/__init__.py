"""The erray command, one file per group of commands."""
