"""Held-out designs: a label a node, given before any graph exists, so that nothing fitted ever sees the other side."""
