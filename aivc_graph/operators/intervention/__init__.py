"""Intervention operators, one a file."""
