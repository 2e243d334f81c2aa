"""Commands seen from a terminal: launching a sweep, its live board, status, the environment check."""
