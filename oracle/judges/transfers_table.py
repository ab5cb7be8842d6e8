"""The rows of the judges of transfers."""

from __future__ import annotations

from .engines import transfer_engines
from .judge import Judge
from .transfers import (
    transfer_bytes,
    transfer_once,
    transfer_outside,
    transfer_proof,
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
    Judge(
        name="transfer-proof",
        claim="at all sizes every byte is covered once, from the right one, inside its memory",
        codes=("KVID", "BIG"),
        kinds={
            "uncovered": "a byte of the consumer is not covered by the plan",
            "covered-twice": "two pieces of a plan overlap on the consumer",
            "covered-twice-or-outside": "a plan moves more or fewer bytes than a unit has",
            "wrong-source": "a byte comes from another place than where the producer has it",
            "read-outside": "a piece leaves the producer's tensor",
            "does-not-pair": "the two sides of a piece differ in length or number",
            "beyond-its-row": "a unit is no block of its row of descriptors",
            "wrong-id": "ids of a group do not begin where its rows do",
            "wraps": "a row ends above 2^64",
            "page-size": "pages have another length than they must have",
            "refused-legal": "the planner refuses engines at sizes at which they are legal",
            "not-notified": "a producer rank is not told, read or not",
            "notified-wrongly": "a producer rank is told too often, or waits for too many",
            "unknown": "z3 does not know: undecided",
            "gave-up": "z3 used up its steps: undecided",
            "no-polynomial": "the planner asked what symbols cannot answer: undecided",
            "nothing-claimed": "of a way to copy nothing was claimed at any sizes: undecided",
            "no-topology": "it fails where no small topology was found to run: undecided",
            "no-such-copy": "ranks read parts together that no proof is about: undecided",
            "one-for-all": "what stands for many units differs from unit to unit: undecided",
        },
        judge=transfer_proof,
    ),
    Judge(
        name="transfer-engines",
        claim="all bytes land between engines in processes; a fault costs its request, no other",
        codes=("KVID", "PROTO"),
        kinds={
            "ended-wrongly": "the request did not end as it must",
            "bystander-not-done": "a request to another producer suffered from a fault",
            "again-not-done": "after a fault the same blocks could not be filled",
            "wrong-byte": "a byte did not arrive or is that of another place",
            "written-outside": "a byte that is no part of the request was written",
            "page-size": "the consumer's tensors have another size than they must have",
            "not-notified": "a producer rank was not told",
            "notified-wrongly": "a producer rank was told too often, or by one not facing it",
            "not-freed": "blocks of a producer were not freed in the end",
            "given-away": "blocks were given away while data could still land in them",
        },
        judge=transfer_engines,
    ),
)
