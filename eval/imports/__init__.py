"""Human-labelled sets as shards: what `flawforge import` does for any of them. A set of its own is in a room of its own."""
