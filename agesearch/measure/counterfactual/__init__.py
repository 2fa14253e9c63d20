"""How far an answer moves when one thing about a rendered person changes."""
