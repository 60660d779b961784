"""Questions to a trained tissue; every answer is a table with identifiers, microns and units."""
