"""The comparison of `benchmarks.search` with stock Ray Tune, in one sitting: ten repeats."""

from benchmarks.search import FEW, OURS, STOCK, main

if __name__ == "__main__":
    main("search_stock", FEW._replace(repeats=10), (OURS, STOCK))
