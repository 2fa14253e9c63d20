"""agesearch finds, proves and serves the smallest face-age model for a budget."""

__version__ = "0.1.0"
