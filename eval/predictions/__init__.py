"""Score maps that any detector has made, read for an evaluation; see docs/predicting.md."""
