"""In which terms answers are judged: the space a decision is made in, one readout a file."""
