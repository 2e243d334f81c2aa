"""What runs next: the arms' Optuna studies, fair scheduling over them, early stopping, budget. No Ray here."""
