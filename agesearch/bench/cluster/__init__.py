"""Whether one driver keeps a large cluster busy, under a simulated clock."""
