"""Relations that messages travel along, one a file."""
