"""Fuzzers of what users, disks and other processes may do to a sweep: `python -m tests.fuzz`, or `make fuzz`.

    sweep_files.py   mutated sweep files through parser, dry run and a simulated search
    damages.py       damaged files of a store and of an export through every command that reads them
    images.py        damaged and odd image files through class folders, `predict` and `evaluate`
    environment.py   faults of the environment: locale, home, temporary folder, databases, disk, terminal, paths
    mutation.py      how texts, values and files are mutated
    simulation.py    a search whose trainings are simulated
    command.py       a command in this process, and what holds of its end whatever happened
    workers.py       cases in processes that are replaced when one hangs or dies
    findings.py      what a part has found, one for each fault

Each case is a function of part, seed and number: ``python -m tests.fuzz --only damages --seed 3 --case 17`` repeats it.
"""
