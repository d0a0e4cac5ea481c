"""Work on a batch: decoding, regions, diffusion, inversion, corruption, checks. Never imports ray."""
