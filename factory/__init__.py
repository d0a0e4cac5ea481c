"""The factory, in rooms; imports go down only, which import-linter checks.

From the top: `maintain`, `build` and `dedup`, `pipeline`, `run` and `sources`, `output`, `recipe`, `store`.
torch and Ray are imported only where work is done.
"""
