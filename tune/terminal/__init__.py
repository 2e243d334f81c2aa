"""A sweep seen from a terminal: conducted, watched live, looked at from outside."""
