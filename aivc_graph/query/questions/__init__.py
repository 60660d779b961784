"""What a tissue can be asked, one question a file."""
