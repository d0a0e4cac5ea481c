"""The factory: recipe, sources, plan, Ray pipeline, shards, manifest. Heavy imports stay inside the pipeline."""
