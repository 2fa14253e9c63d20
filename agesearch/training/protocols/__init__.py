"""Trainings by published protocols: fine-tuning turn by turn, and the cross-dataset matrix."""
