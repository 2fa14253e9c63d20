"""How models fare on corrupted faces."""
