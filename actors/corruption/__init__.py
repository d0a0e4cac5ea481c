"""Corruption of one image: methods on the latent, retry policy, verification against the round trip.

`corruptor` runs them on a batch and is what the factory and a notebook call.
"""
