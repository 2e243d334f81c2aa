"""What the system costs, and what the method brings: `python -m benchmarks.NAME [--json]`, one question a file.

    step.py         a training step, beside snntorch, spikingjelly, and the same network with ReLU
    distil.py       an epoch with a teacher's relations, beside one without a teacher
    sweep.py        a whole sweep, beside its bare trainings
    scale.py        the driver's work a trial, after 2,000 trials beside after 100
    search.py       what a search finds in a given time, beside plain Optuna and random search
    search_many.py  the same with time for many short trainings
    quality.py      how much of random search's budget the search needs, on two formulas and on digits
    capacity.py     how far one driver reaches, simulated
    method.py       what a teacher brings: arms paired by seed on two data sets
    common.py       the machine, the repeats, the table and the JSON of all of them

Figures that were measured with care are in RESULTS.md, with the machine, the versions and the command.
"""
