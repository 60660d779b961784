"""What can be done to tissue, one kind of intervention a file."""
