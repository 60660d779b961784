"""One self-contained page from a run: what was found, what it rests on, how well it holds and where it does not."""
