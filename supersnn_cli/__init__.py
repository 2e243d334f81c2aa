"""The `supersnn` command line. Each command imports the packages it needs when it runs, so that `--help` is fast.

Tables and JSON go to standard output, progress and error messages to standard error. Exit codes: 0 success, 1 internal
error or failed check, 2 usage error, 130 interrupted, 141 output into a pipe that nobody reads, 143 terminated.
"""

from supersnn_cli.application import app, main
from supersnn_cli.failures import exit_code

__all__ = ["app", "exit_code", "main"]
