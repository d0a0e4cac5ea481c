"""Programs for developers, outside of the wheel."""
