"""The last layer of a network, refitted in closed form; the rest stays as it is."""
