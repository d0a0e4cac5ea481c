"""Programs for those who work on Flawforge; they are not part of the wheel."""
