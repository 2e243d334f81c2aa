"""Features against relations at equal sides of their maps: `python -m benchmarks.sides --help`.

design.py    the claim, fixed before any training; the arms, and how they are tuned
tables.py    the tables of a data set
evidence.py  the committed evidence, and the section of RESULTS.md that is computed from it

The trainings themselves are those of `benchmarks/trainings.py`.
"""
