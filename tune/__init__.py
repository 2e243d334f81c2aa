"""The search: a sweep's arms as Optuna studies, trials on Ray, MLflow tracking, final runs and exports.

Its interface is the command line (`supersnn`); modules may move between versions.
"""
