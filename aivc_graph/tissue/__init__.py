"""One section of tissue in one micron frame, held as a SpatialData."""
