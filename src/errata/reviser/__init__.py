"""Revisers: instruction sets in, better ones out."""
