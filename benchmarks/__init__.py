"""Benchmarks of the system and of the method: `python -m benchmarks.NAME [--json]`, one question per file.

    step.py         a training step, compared with snntorch, spikingjelly, and the same network with ReLU
    distil.py       an epoch with a teacher's relations, compared with one without a teacher
    sweep.py        a complete sweep, compared with its trainings alone
    scale.py        the driver's work per trial after 2,000 trials, compared with after 100
    search.py       the best student found in a given time, compared with plain Optuna and random search
    search_many.py  the same with time for many short trainings
    search_stock.py, sweep_stock.py  the same problems against stock Ray Tune, which `stock.py` runs
    quality.py      the share of random search's budget that the search needs, on two formulas and on digits
    capacity.py     how far one driver reaches, simulated
    method.py       the effect of a teacher: arms paired by seed on two data sets
    arms.py         what the sweep of configs/arms.yaml found, from its journal
    sides           feature matching and relations at equal sides of the maps
    trainings.py    the trainings that method.py and sides are made of
    relation_scale.py  gradients of the relational terms, for their default ranges
    gpu             one GPU: steps, epochs, packed trials
    method_text.py  the comparisons that the text on the method makes
    recompute.py    the tables of RESULTS.md from the committed evidence
    common.py       shared code: machine, repeats, table and JSON

RESULTS.md has the measured figures, with the machine, the versions and the command.
"""
