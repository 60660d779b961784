"""What carries an effect through dose and time, one propagator a file."""
