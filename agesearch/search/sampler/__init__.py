"""What to try next: the samplers, and the model of errors behind ``ehvi``."""
