"""After the search: fresh seeds, the test opened once, export folders and their cards."""
