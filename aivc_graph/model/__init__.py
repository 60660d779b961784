"""The model: encode → (lateral, lift, project) × depth → measure."""
