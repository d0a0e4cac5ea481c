"""Storage at any fsspec URL: atomic, create-only writes to disks and buckets, and reads from foreign stores.

Also the gate that decides which places a foreign text may name, and what the errors of stores mean.
"""
