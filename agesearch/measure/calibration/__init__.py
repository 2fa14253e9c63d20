"""Learning an age correction and honest intervals from faces that chose nothing else; what they are worth."""
