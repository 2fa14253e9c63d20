"""What may be searched: dimensions, conditions, the limits of a study, and what is refused of a space."""
