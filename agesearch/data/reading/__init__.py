"""A dataset as a training reads it: splits, teacher outputs, sequences, and the pack of the demo."""
