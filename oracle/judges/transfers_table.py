"""The rows of the judges of transfers."""

from __future__ import annotations

from .judge import Judge
from .transfers import (
    transfer_bytes,
    transfer_once,
    transfer_outside,
    transfer_protocol,
    transfer_refusal,
)

TRANSFER_JUDGES = (
    Judge(
        name="transfer-refusal",
        claim="engines that cannot meet and bad requests are refused, by name; others never are",
        codes=("KVID", "PROTO"),
        kinds={
            "not-refused": "what must be refused was accepted",
            "wrong-error": "it was refused with another error than the documented one",
            "unnamed": "the refusal does not name those that it is about",
            "refused-legal": "what is legal was refused",
            "raised": "an error that is no refusal",
            "crash": "the process died",
            "timeout": "the transfer did not end in the time a case is given",
        },
        judge=transfer_refusal,
    ),
    Judge(
        name="transfer-bytes",
        claim="every byte that must arrive has, and is the byte of its layer, part, head and token",
        codes=("KVID",),
        kinds={
            "missing": "a byte did not arrive",
            "wrong-byte": "a byte is that of another place",
            "page-size": "the consumer's tensors have another size than they must have",
        },
        judge=transfer_bytes,
    ),
    Judge(
        name="transfer-outside",
        claim="nothing beside the plan is written, nothing outside the producer's memory read",
        codes=("KVID", "PAD"),
        kinds={
            "written-outside": "a byte that is no part of the request was written",
            "writes-outside": "a plan writes outside of every tensor",
            "reads-outside": "a plan reads outside of every tensor",
        },
        judge=transfer_outside,
    ),
    Judge(
        name="transfer-once",
        claim="no byte is written twice",
        codes=("KVID",),
        kinds={"written-twice": "a byte was written more than once"},
        judge=transfer_once,
    ),
    Judge(
        name="transfer-protocol",
        claim="each producer rank hears once of each consumer rank it faces, and frees after all",
        codes=("PROTO",),
        kinds={
            "not-notified": "a producer rank was not told",
            "notified-wrongly": "a producer rank was told too often, or of no request of its own",
            "freed-wrongly": "blocks were freed too early, never or twice",
        },
        judge=transfer_protocol,
    ),
)
