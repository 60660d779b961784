"""Lateral operators, one a file."""
