"""Work on a batch of samples; never imports Ray, so that a notebook or a unit test can call it directly.

`corruption` and `segmentation` stand on `diffusion`, and all of them on the modules of the ground floor: images, masks,
model files, seeds, errors.
"""
