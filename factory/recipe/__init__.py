"""Recipes: strict models of the sections, the YAML they are read from, and errors with line numbers.

The content half decides every byte of an output; the execution half does not.
"""
