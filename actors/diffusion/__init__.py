"""The diffusion model: loading, noise schedule, prompts, DDIM inversion and resampling.

Batch rows never affect each other, so an image gives the same bytes in any shard.
"""
