"""Where a store's MLflow is, its user interface, and the addresses of a sweep's pages in it."""

import os
from pathlib import Path


def uri_for(store: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the address of the store's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.resolve() / 'mlflow.db'}"
