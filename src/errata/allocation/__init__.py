"""How the problems that are asked for are spent on the errors."""
