"""What the tables let expect of errors beforehand: the weights that the product has, and how well they rank
the configurations of a table that they were not learnt from.

    python reports/search/prior.py reports/search/*.parquet
"""

from __future__ import annotations

import sys

from scipy.stats import spearmanr

from agesearch.search.model.error_prior import TERMS, ErrorPrior
from agesearch.search.replay.curve_table import read_record
from agesearch.search.replay.tables import left_out_priors, terms_and_errors


def main(places: list[str]) -> None:
    """Print the weights, and the rank correlation on each table by those of the others."""
    tables = [read_record(place) for place in places]
    known = [terms_and_errors(table) for table in tables]
    print("all tables:", ErrorPrior.learnt(known).weights, "of", ", ".join(TERMS))
    for place, table, (terms, errors) in zip(places, left_out_priors(tables), known, strict=True):
        ranked = spearmanr(table.error_prior.expected(terms), errors).statistic
        print(f"{place}: rank correlation {ranked:.2f} by {table.error_prior.weights}")


if __name__ == "__main__":
    main(sys.argv[1:])
