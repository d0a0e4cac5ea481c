"""The commands of the command line, one module per theme; thin wrappers of the Python API and of the floors below."""
