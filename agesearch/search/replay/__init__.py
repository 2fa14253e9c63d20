"""Search strategies compared on recorded curves; nothing is trained."""
