"""RichHF-18k (Liang et al., CVPR 2024): its TFRecords, the labels in its maps, and the join with Pick-a-Pic's images."""
