"""What `benchmarks.search` measures, with trainings so short that there is time for very many of them."""

from benchmarks.search import MANY, main

if __name__ == "__main__":
    main("search_many", MANY)
