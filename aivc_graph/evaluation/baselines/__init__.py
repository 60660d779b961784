"""Baselines, one a file; all that fit a task are run beside every model."""
