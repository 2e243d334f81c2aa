"""The record of a sweep: its events, the journal that holds them, and the state that follows from them.

    events.py    one frozen model per event: the schema of `journal.jsonl`
    journal.py   one writer and one reader of that file; lines.py what any such file of lines needs
    searches.py  names of searches: an arm on a data set in a replicate
    state.py     `SweepState`: what the events add up to (trials, best trials, winners, final runs, drivers)
    snapshot.py  a `SweepState` saved beside its journal, so that a long journal is not read from its start again
    metrics.py   every metric once: key, column, title, unit, format, direction
    pairing.py   architecture families, and whether a pairing is homogeneous

Everything that shows a sweep (status, the live board, MLflow, exports, the report) is a view of `SweepState`. The
package imports neither torch, Ray, Optuna, MLflow nor pandas.
"""
