"""The data side of training: which sample stands at which position of the run, and how it is read and decoded.

The global batch of a step is a pure function of (digests of the data sets, seed, step). Nothing else is state, so that
resuming is arithmetic, and any number of workers reads the same.
"""
