"""What an experiment leaves in Weights & Biases."""
