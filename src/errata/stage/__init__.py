"""The verbs of the loop, one a file: each maps a list of records to a list of the next."""
