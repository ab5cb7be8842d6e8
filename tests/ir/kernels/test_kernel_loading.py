"""Provider packages are imported on demand, and one that cannot run says why."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

import ir.kernels
from ir import ops
from ir.kernels import Availability, load

NEEDS_TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the package triton is not installed"
)


def _python(code, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_ir_imports_no_provider():
    assert _python(
        "import sys, ir; print('triton' in sys.modules, 'ir.kernels' in sys.modules)"
    ) in (
        "False False",
        # torch itself imports triton where it finds it.
        "True False",
    )


@pytest.fixture
def fresh():
    ir.kernels._load.cache_clear()
    yield
    ir.kernels._load.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_a_provider_whose_extra_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert load() == {
        "triton": Availability(
            False,
            "missing: the package triton is not installed (pip install 'irverify[triton]')",
        )
    }


@pytest.mark.usefixtures("fresh")
def test_a_provider_that_does_not_import_is_named(monkeypatch):
    def refuse(name):
        raise ImportError("libamdhip64.so: no such file")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(ir.kernels.importlib, "import_module", refuse)
    found = load()["triton"]
    assert not found.available
    assert found.reason == (
        "broken: the package triton does not import: libamdhip64.so: no such file"
    )


@NEEDS_TRITON
def test_loading_twice_registers_once():
    first, second = load(), load()
    assert first == second
    for name in ops.__all__:
        assert list(getattr(ops, name).impls).count("triton") == 1


@NEEDS_TRITON
def test_availability_is_what_registrations_say():
    found = load()["triton"]
    for name in ops.__all__:
        assert getattr(ops, name).impls["triton"].supported is found.available


@NEEDS_TRITON
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_or_the_interpreter_the_reason_says_so():
    code = "from ir import kernels; f = kernels.load()['triton']; print(f.available, f.reason)"
    assert _python(code, TRITON_INTERPRET="0") == "False no GPU and TRITON_INTERPRET is not 1"
    assert _python(code, TRITON_INTERPRET="1").startswith("True Triton ")
