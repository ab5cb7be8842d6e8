"""The CUDA backend: the function is recorded once by the host's rules, then captured by CUDA.

The recording is the warm-up that CUDA asks for. It refuses with a reason what a CUDA capture
would abort on, finds who owns what is used, and puts back what the warm-up wrote. Kernels that
are not built on dispatch are welcome here: CUDA sees what they launch.
"""

from __future__ import annotations

import torch

from ir.capture.errors import CaptureRefused
from ir.capture.graph import CapturedGraph
from ir.capture.host import (
    Recording,
    Subject,
    check_owners,
    ledger_entries,
    record,
    unwritten,
)
from ir.capture.ledger import AddressLedger
from ir.capture.owners import places
from ir.capture.tape import storage_bytes, tensors_in


def lies_on_gpu(subject: Subject) -> bool:
    """Whether the first input, or where there is none any owner, lies on a GPU."""
    if subject.inputs:
        return subject.inputs[0].is_cuda
    return any(p.tensor.is_cuda for p in places(subject.fn, subject.owners))


def _warmed_up(subject: Subject) -> Recording:
    # On a stream of its own, as torch.cuda.graph will run it: libraries set themselves up there.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        recording = record(subject, opaque=True)
    torch.cuda.current_stream().wait_stream(stream)
    return recording


def capture_cuda(subject: Subject) -> CapturedGraph:
    """Capture on the current device. Raises CaptureRefused."""
    if not torch.cuda.is_available():
        raise CaptureRefused("inputs", "no CUDA device is at hand", 'backend="host"')
    found = places(subject.fn, subject.owners)
    recording = _warmed_up(subject)
    check_owners(found, places(subject.fn, subject.owners), recording.recorder)
    graph = torch.cuda.CUDAGraph()
    for generator in subject.generators:
        graph.register_generator_state(generator)
    try:
        with torch.no_grad(), torch.cuda.graph(graph, capture_error_mode="global"):
            outputs = subject.fn(*subject.inputs)
    except RuntimeError as error:
        raise CaptureRefused("not-replayable", str(error), "work that CUDA can capture") from error
    captured = Recording(
        recorder=recording.recorder, outputs=outputs, values=recording.values, left=recording.left
    )
    made = [t for t in tensors_in(outputs) if t.is_cuda]

    def poison(byte: int) -> None:
        # The pool's other memory is not ours to name; results are.
        for t in made:
            storage_bytes(t).fill_(byte)

    entries = ledger_entries(subject, found, captured)

    def run() -> None:
        graph.replay()

    return CapturedGraph(
        name=subject.name,
        backend="cuda",
        run=run,
        inputs=subject.inputs,
        names=subject.names,
        outputs=outputs,
        ledger=AddressLedger(entries),
        poison=poison,
        unwritten=unwritten(subject, captured),
    )
