"""What tells the expression of a node that was not counted, one operator a file."""
