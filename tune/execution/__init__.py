"""Execution: executors (Ray or in process), the trial in its worker, preparation of teachers and their caches."""
