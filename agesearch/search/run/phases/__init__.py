"""The phases of a run: the search, and new trainings of its candidates."""
