"""Experiment trackers beside TensorBoard: Weights & Biases and MLflow, each an extra of the package.

Project, server and keys come from the trackers' own environment variables, never from a recipe. Nothing that a tracker
does can slow down or end a training: its work is done on a thread of its own, and its trouble is a message.
"""
