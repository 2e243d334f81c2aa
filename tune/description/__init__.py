"""The description of a sweep: its configuration, arms and search space, and the plan of its cost."""
