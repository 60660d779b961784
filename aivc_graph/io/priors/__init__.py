"""Files of prior knowledge about molecules: one layout a file, told by content."""
