"""The judges: pure functions from evidence to a verdict, and the table that names them."""

from .evidence import Evidence
from .table import JUDGES, Judge, judge_named

__all__ = ["JUDGES", "Evidence", "Judge", "judge_named"]
