"""The rows of the judges of connectors."""

from __future__ import annotations

from .connector_calls import connector_completion, connector_hooks, connector_metadata
from .connector_moves import connector_kv, connector_requests, connector_store
from .judge import Judge

CONNECTOR_JUDGES = (
    Judge(
        name="connector-completion",
        claim="a worker goes through its schedule; what cannot run under its graphs is refused",
        codes=("CG", "PROTO"),
        kinds={
            "raised": "the worker raised an error that is no refusal",
            "refused-legal": "a connector or a step that is legal was refused",
            "not-refused": "a connector whose hooks a replay would skip was accepted",
            "refused-late": "it was accepted at first, and refused after a step",
            "wrong-error": "it was refused with another error than the documented one",
            "other-steps": "other steps were seen than those of the schedule, or fewer, or more",
            "mode": "the graphs are of another kind than the connector's policy gives",
            "crash": "the process died",
            "timeout": "the schedule did not end in the time a case is given",
        },
        judge=connector_completion,
    ),
    Judge(
        name="connector-hooks",
        claim="every step, real, dummy or replayed, calls each hook once and in order",
        codes=("CG", "PROTO"),
        kinds={
            "not-entered": "a run did not enter the connector once",
            "misplaced": "a call came out of its place, twice or not at all",
            "not-replayed": "the hooks' work on the device did not run once and in order",
            "accepted": "a call out of its place was accepted",
            "refused": "a call in its place was refused",
            "forwarded": "a refused call reached the connector, or an accepted one did not",
            "ended-early": "a step might end before it was whole",
            "not-ended": "a whole step might not end",
            "finished": "the connector heard of other requests that ended",
        },
        judge=connector_hooks,
    ),
    Judge(
        name="connector-metadata",
        claim="metadata is bound in every call, made by the connector, for this step",
        codes=("CG", "PROTO"),
        kinds={
            "unbound": "a call came with nothing bound",
            "not-own": "the connector did not make what was bound",
            "not-fresh": "what was bound was made for another step",
            "left-bound": "metadata is still bound after the step",
            "output-changed": "a scheduler output was changed",
        },
        judge=connector_metadata,
    ),
    Judge(
        name="connector-kv",
        claim="after each step every slot holds its KV, byte for byte, and no other was written",
        codes=("CG", "PAD", "KVID"),
        kinds={
            "wrong-kv": "a slot that the step wrote holds other KV than its token's",
            "written-outside": "a slot that belongs to no request of the step was written",
            "dummy-wrote": "a dummy run changed KV",
        },
        judge=connector_kv,
    ),
    Judge(
        name="connector-store",
        claim="what was saved is in the store, whole; what was not is not",
        codes=("KVID", "PROTO"),
        kinds={
            "missing-entry": "an entry that was saved is not there",
            "extra-entry": "an entry is there that was not saved",
            "torn-entry": "an entry is neither the old nor the new one",
            "wrong-entry": "an entry holds other KV than its tokens'",
            "stray-file": "a file is left that is no entry",
        },
        judge=connector_store,
    ),
    Judge(
        name="connector-requests",
        claim="a failure is reported to its request and to nobody else",
        codes=("PROTO", "VAL"),
        kinds={
            "matched": "another number of tokens was said to be in the store",
            "outlived": "the worker did not end where a signal took it, or ended elsewhere",
            "not-failed": "a request did not hear that it failed",
            "failed-wrongly": "a request that did not fail was told that it did",
            "received-wrongly": "other requests were said to be loaded",
            "sent-wrongly": "other requests were said to be saved",
            "token": "a request got another token than its own, or none",
            "logits": "the logits of a request are not those of its tokens",
        },
        judge=connector_requests,
    ),
)
