"""RichHF-18k (Liang et al., CVPR 2024): its TFRecords, the labels in its maps, and its images in Pick-a-Pic."""
