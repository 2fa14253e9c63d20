"""Teachers that nobody here trained: their documents, their networks, and their answers as PMFs."""
