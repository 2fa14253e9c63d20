"""From an image's bytes to an aligned face crop, and augmented views of it."""
