"""Lift operators, one a file."""
