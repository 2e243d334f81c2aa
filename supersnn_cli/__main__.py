"""Run the command line with `python -m supersnn_cli`, as the console script `supersnn` does."""

from supersnn_cli import main

if __name__ == "__main__":
    main()
