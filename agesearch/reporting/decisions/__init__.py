"""Decisions at an age limit, as tables for a terminal and as a page with its chart."""
