"""One shard: its tar, index and sidecar, how they are written, and how they are read.

The sidecar is written last and commits the shard.
"""
