"""What `benchmarks.search` measures, with trainings so short that there is time for very many of them."""

from benchmarks.common import main
from benchmarks.search import MANY, QUICK, measure

if __name__ == "__main__":
    main("search_many", lambda quick: measure("search_many", QUICK if quick else MANY))
