"""Exhaustive sets of cases, as data: which points there are, and the case of each."""
