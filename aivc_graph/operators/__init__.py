"""What the model is made of, one operator a file: measurement, lateral, lift, project."""
