"""Work on an output that exists: verify, inspect, replay, merge, split, retry rejects.

The top room of the factory: it may import every other one.
"""
