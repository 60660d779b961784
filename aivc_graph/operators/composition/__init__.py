"""What a parent is made of, one operator a file."""
