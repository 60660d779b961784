"""One kind of data a file: what is measured, and how it is checked and described."""
