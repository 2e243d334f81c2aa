"""What runs next: the arms' studies, their fair hand-out, early stopping and budget. No Ray here."""
