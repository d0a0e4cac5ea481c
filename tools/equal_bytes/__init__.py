"""Proof that a change of the code changes no output: build the same outputs before and after it, and compare them."""
