"""One vendor or format a file; importing a file registers its reader."""
