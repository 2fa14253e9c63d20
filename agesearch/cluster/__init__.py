"""The nodes of a Ray cluster."""
