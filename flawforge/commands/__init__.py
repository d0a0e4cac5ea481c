"""The commands of the command line, a module per theme; thin wrappers of the Python API and of the floors below."""
