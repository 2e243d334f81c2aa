"""Checks of everything that runs on a GPU: `python -m tests.gpu`, on a machine with one, in at most seven minutes.

They need the method's own requirements and pytest, no Ray and no MLflow. With `--device cpu` the same checks run on the
CPU, which tests the checks; those of a GPU alone are skipped then.
"""
