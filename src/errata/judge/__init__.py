"""Judges: which of two answers is better, how good is one."""
