"""The checks that a generated row must pass before anything is trained on it."""
