"""`smoke=true`: any command with the same code and small real parts, in a minute or two on a CPU, with no connection.

The numbers of such a run mean nothing: it shows that everything from the first question to the report works together.
"""
