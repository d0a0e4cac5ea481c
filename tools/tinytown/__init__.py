"""Programs that make the assets of tinytown: `make assets` runs them in order."""
