"""What the trials of a study tell of others, and what earlier studies let expect of them."""
