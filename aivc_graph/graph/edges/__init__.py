"""Lateral edges, one rule a file. A rule takes positions in µm and returns distances as a CSR matrix."""
