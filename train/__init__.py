"""Training: the programs that made the shipped assets, and (issue by issue) the detectors' loops."""
