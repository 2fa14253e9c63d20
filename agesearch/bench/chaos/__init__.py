"""Kills a study again and again and checks that nothing is lost."""
