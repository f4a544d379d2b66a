"""Named instruction sets, and mixtures of them."""
