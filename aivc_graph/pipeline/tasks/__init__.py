"""What a run is scored on, one task a file."""
