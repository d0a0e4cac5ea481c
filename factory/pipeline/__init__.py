"""The pipeline on Ray Data: stages, worker pools, admission of workers, crash marks, the outlook on a recipe.

One row is one shard from the plan to the writer.
"""
