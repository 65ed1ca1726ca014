"""`python -m minseg` is the minseg command."""

from minseg.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
