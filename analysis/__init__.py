"""The analysis: tables of a sweep, paired comparisons with confidence intervals, and the report.

The public names below are imported when they are first used (PEP 562). The package imports neither Ray nor torch.
"""

from typing import TYPE_CHECKING

from supersnn.lazy_names import lazy_names

if TYPE_CHECKING:
    from analysis.compare import verdicts
    from analysis.load import from_mlflow as load_from_mlflow
    from analysis.load import sweep as load_sweep
    from analysis.load import sweeps as load_sweeps
    from analysis.report import write_csv, write_html, write_parquet
    from analysis.results import results as sweep_results
    from analysis.tables import Sweep

__all__ = [
    "Sweep",
    "load_from_mlflow",
    "load_sweep",
    "load_sweeps",
    "sweep_results",
    "verdicts",
    "write_csv",
    "write_html",
    "write_parquet",
]

_LOCATIONS = {
    "Sweep": "analysis.tables:Sweep",
    "load_from_mlflow": "analysis.load:from_mlflow",
    "load_sweep": "analysis.load:sweep",
    "load_sweeps": "analysis.load:sweeps",
    "sweep_results": "analysis.results:results",
    "verdicts": "analysis.compare:verdicts",
    "write_csv": "analysis.report:write_csv",
    "write_html": "analysis.report:write_html",
    "write_parquet": "analysis.report:write_parquet",
}
"""Each public name's module and attribute."""


__getattr__, __dir__ = lazy_names(globals(), _LOCATIONS, __all__)
