"""Errors of the oracle itself: wrong use, and faults of ours."""


class OracleError(Exception):
    """Base of what the oracle raises on purpose."""


class UsageError(OracleError, ValueError):
    """The caller asked for something there is not: says what was asked and what is accepted."""


class OwnFault(OracleError, RuntimeError):
    """A judge, a strategy or the reference failed: our bug, which stops the run."""
