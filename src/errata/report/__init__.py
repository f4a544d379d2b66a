"""Stored runs to tables and figures; no model is loaded."""
