"""`python -m supersnn_cli`: the same as the console script."""

from supersnn_cli import main

if __name__ == "__main__":
    main()
