"""The front measured: speed side by side, corruption, and where those records lie."""
