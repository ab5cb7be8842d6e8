"""What drives captured functions: its providers, what it declines, and what it leaves behind."""

from dataclasses import replace

import pytest
import torch

from fuzz.chooser import SeededChooser
from fuzz.strategies.captures import drawn_case, padded_case, plain_case, refused_case
from ir.state import ir_state
from oracle.observation import Declined
from oracle.observation.capture import CaptureReturned
from oracle.subjects.capture import compiled
from oracle.subjects.capture.compiled import compiled_form
from oracle.subjects.capture.subject import observe, providers
from oracle.subjects.capture.traps import OF_THE_HOST
from reference.model.capture import Replay
from reference.replays import TRAPS


def test_cuda_is_named_as_missing_where_torch_sees_none():
    host, cuda = providers()
    assert (host.name, host.routes, host.unavailable) == ("host", ("host", "compiled"), "")
    assert (cuda.name, cuda.routes) == ("cuda", ("cuda",))
    assert bool(cuda.unavailable) == (not torch.cuda.is_available())


def test_traps_of_the_host_are_no_traps_elsewhere():
    assert set(TRAPS) > OF_THE_HOST
    case = refused_case(SeededChooser(0, "trap"), "numpy")
    assert observe(case, "cuda") == Declined("of-the-host")


def test_what_is_not_compiled_is_declined():
    assert observe(refused_case(SeededChooser(0, "trap"), "item"), "compiled") == Declined(
        "not-compiled"
    )


@pytest.mark.parametrize("make", [drawn_case, padded_case, refused_case])
def test_nothing_is_left_of_a_case(make):
    before = (dict(ir_state.types), ir_state.sealed)
    for i in range(6):
        assert isinstance(observe(make(SeededChooser(3, "left", i)), "host"), CaptureReturned)
    assert (dict(ir_state.types), ir_state.sealed) == before


def test_each_replay_stands_beside_the_function_called_straight():
    case = plain_case(SeededChooser(0, "beside"))
    given = case.replays[0].given or (0,)
    case = replace(case, events=(Replay(given=given), Replay(given=given)), noise=True)
    found = observe(case, "host")
    assert isinstance(found, CaptureReturned)
    for seen in found.events:
        assert [o.values.tolist() for o in seen.outputs] == [o.values.tolist() for o in seen.eager]
        assert len(seen.outputs) == 2


@pytest.mark.parametrize("stock", [IndexError("at 3"), KeyError("'ir_origin'"), None])
def test_a_failed_compilation_is_torchs_only_where_it_fails_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch, stock: Exception | None
):
    ours = IndexError("at 3")

    def warm(_case: object, _device: str, form: compiled.Compiled) -> None:
        error = stock if form.stock else ours
        if error is not None:
            raise error

    monkeypatch.setattr(compiled, "_warm", warm)
    case = plain_case(SeededChooser(0, "words"))
    if isinstance(stock, IndexError):
        assert compiled_form(case, "cpu", stock=False) is None
    else:
        with pytest.raises(IndexError) as raised:
            compiled_form(case, "cpu", stock=False)
        assert raised.value is ours
