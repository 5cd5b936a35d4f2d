"""``python -m raytrade`` is the command line."""

from raytrade.cli import main

if __name__ == "__main__":
    main()
