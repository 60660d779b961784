"""One target a file; importing a file registers its writer."""
