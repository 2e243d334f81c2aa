"""The comparison of `benchmarks.search` with stock Ray Tune, in one sitting.

Six repeats settle large leads only: two searches differ by some 0.8 points (standard deviation).
"""

from benchmarks.search import FEW, OURS, STOCK, main

PROBLEM = FEW._replace(repeats=6)
COMPARED = (OURS, STOCK)

if __name__ == "__main__":
    main("search_stock", PROBLEM, COMPARED)
