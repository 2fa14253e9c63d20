"""How fast models are on the runtimes that serve them."""
