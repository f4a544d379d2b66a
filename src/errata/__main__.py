"""`python -m errata COMMAND`: the command line where no `errata` is on the path."""

from errata.cli import main

if __name__ == "__main__":
    main()
