"""Looking after a data set that is there: looking into it, making samples again, merging, splitting, rebuilding."""
