"""Training of segmentation models, and their checkpoints."""
