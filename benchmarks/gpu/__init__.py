"""How fast trainings are on one GPU: `python -m benchmarks.gpu`, at most 9 minutes; `--device cpu --small` tests it."""
