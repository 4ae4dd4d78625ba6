"""``python -m rlnas``."""

from rlnas.cli.main import main

if __name__ == "__main__":
    main()
