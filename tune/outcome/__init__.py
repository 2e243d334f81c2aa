"""After the search: ranking and verification, the test set opened once, export folders and model cards."""
