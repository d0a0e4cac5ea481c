"""A run while it goes on: tally, monitor, log, record, state, status, metrics, signals.

Nothing here decides a byte of the output.
"""
