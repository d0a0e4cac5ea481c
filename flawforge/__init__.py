"""The front door: command line, quickstart, and the paper's experiments."""
