"""What a sweep is, before it runs: its file, arms and space, and what it would cost."""
