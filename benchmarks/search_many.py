"""The comparison of `benchmarks.search` with many short trainings."""

from benchmarks.search import MANY, main

if __name__ == "__main__":
    main("search_many", MANY)
