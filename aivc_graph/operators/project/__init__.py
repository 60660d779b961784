"""Project operators, one a file."""
