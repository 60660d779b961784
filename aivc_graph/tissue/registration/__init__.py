"""Place an element of a section in its micron frame: one method a file, each with its residual in microns."""
