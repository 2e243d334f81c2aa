"""The command line: each subcommand opens its floor only when it runs. Tables and JSON go to standard output,
progress and complaints to standard error; exit 0 done, 1 our fault or a failed check, 2 the user's mistake, 130
interrupted.
"""

from supersnn_cli.application import app, exit_code, main

__all__ = ["app", "exit_code", "main"]
