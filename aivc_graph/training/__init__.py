"""Training: the closed-form baseline, the loop, the objective, checkpoints."""
