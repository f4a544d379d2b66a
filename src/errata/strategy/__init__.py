"""How an error becomes a request to the instructor."""
