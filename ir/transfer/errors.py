"""Why a transfer is refused: each error names who says what, with numbers, and what is accepted."""

from __future__ import annotations

from ir.errors import IrError


class TransferError(IrError, ValueError):
    """Base of every refusal of `ir.transfer`."""


class GeometryError(TransferError):
    """One engine describes a cache that cannot exist, whoever the peer is."""

    def __init__(self, engine: str, field: str, got: object, accepted: str) -> None:
        super().__init__(engine, field, got, accepted)
        self.engine = engine
        self.field = field
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return f"engine {self.engine!r}: {self.field} is {self.got}; accepted: {self.accepted}"


class IncompatibleEnginesError(TransferError):
    """Two sound engines that cannot exchange a cache, found when the plan is made."""

    def __init__(
        self,
        *,
        producer: str,
        consumer: str,
        field: str,
        producer_has: object,
        consumer_has: object,
        accepted: str,
    ) -> None:
        super().__init__(producer, consumer, field, producer_has, consumer_has, accepted)
        self.producer = producer
        self.consumer = consumer
        self.field = field
        self.producer_has = producer_has
        self.consumer_has = consumer_has
        self.accepted = accepted

    def __reduce__(self) -> tuple[object, ...]:
        return _incompatible, self.args

    def __str__(self) -> str:
        return (
            f"producer {self.producer!r} and consumer {self.consumer!r} differ in {self.field}: "
            f"{self.producer_has} and {self.consumer_has}; accepted: {self.accepted}"
        )


def _incompatible(
    producer: str, consumer: str, field: str, p_has: object, c_has: object, accepted: str
) -> IncompatibleEnginesError:
    return IncompatibleEnginesError(
        producer=producer,
        consumer=consumer,
        field=field,
        producer_has=p_has,
        consumer_has=c_has,
        accepted=accepted,
    )


class RequestError(TransferError):
    """A request that the plan of its two engines does not admit; the plan stays good."""

    def __init__(self, request: str, field: str, got: object, accepted: str) -> None:
        super().__init__(request, field, got, accepted)
        self.request = request
        self.field = field
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return f"request {self.request!r}: {self.field} is {self.got}; accepted: {self.accepted}"


class DescriptorError(TransferError):
    """Descriptors that reach outside their memory, wrap, overlap or do not pair up."""

    def __init__(self, what: str, got: object, accepted: str) -> None:
        super().__init__(what, got, accepted)
        self.what = what
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return f"{self.what} is {self.got}; accepted: {self.accepted}"
