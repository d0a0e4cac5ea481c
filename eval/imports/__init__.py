"""Human-labelled sets as shards: what `flawforge import` does for any of them."""
