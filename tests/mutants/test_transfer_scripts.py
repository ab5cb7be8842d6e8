"""The script of a fault between processes shows it with `ir` alone, and is silent without it."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.transfers import transfer_case
from ir.transfer.nixl.binding import installed
from ir.transfer.nixl.errors import NixlMissingError
from oracle.finding import Finding
from oracle.kinds import kind_named
from oracle.script import ScriptError
from oracle.verdict import Place
from reference.transfer import expect_transfer

ROOT = Path(__file__).resolve().parents[2]

NIXL = "ir/transfer/nixl/"
MUTANTS = {
    "a read of blocks in another order": (
        "",
        NIXL + "rank_agent.py",
        ("remote_ids[runs.order].astype", "remote_ids[runs.order][::-1].copy().astype"),
        "memory, stage ",
    ),
    "a request that is told of twice": (
        "",
        NIXL + "receiving.py",
        (
            "self._agents[worker].notify(link.agent_name(note.source), notice.encode())",
            "[self._agents[worker].notify(link.agent_name(note.source), m) "
            "for m in 2 * [notice.encode()]]",
        ),
        "notification (0, ",
    ),
    "a hold that nothing ends": (
        "",
        NIXL + "sending.py",
        (
            "self._leases[worker].notify(notice.request,",
            "self._leases[worker].holds(str(worker)); (",
        ),
        "blocks: observed still held: ['",
    ),
    "blocks given away while data may land": (
        "abort",
        NIXL + "receiving.py",
        ("if receipt.landing and receipt.blocks & blocks:", "if False:"),
        "blocks: observed given away while data could land, expected kept",
    ),
    "a stopped producer that is waited for": (
        "stop",
        NIXL + "receiving.py",
        ('receipt.fail(Status.DEADLINE, "its deadline has passed")', "pass"),
        "request: observed landing, expected deadline or failed or done",
    ),
    "garbled metadata that ends an engine": (
        "garble",
        NIXL + "engine.py",
        ("except TransferError as error:", "except KeyError as error:"),
        "engines: observed PeerError: ",
    ),
}


def transfer(fault: str, *, push: bool, blocks: int = 0):
    """A case with one good request that moves something."""
    i = 0
    while True:
        case = transfer_case(SeededChooser(0, "scripts", i))
        case = replace(case, requests=case.requests[:1], fault=fault, push=push)
        expected = expect_transfer(case)
        moves = sum(int((t.codes != 0).any()) for stage in expected.consumers for t in stage)
        long = len(case.requests[0].consumer_blocks[0]) >= blocks
        if expected.refused is None and not any(expected.requests) and moves and long:
            return case
        i += 1


def script_of(case, route: str = "nixl-tcp") -> str:
    finding = Finding(
        fingerprint="0" * 12,
        property="transfer",
        subject="ir",
        op="transfer",
        provider="nixl",
        route=route,
        judge="transfer-engines",
        kind="wrong-byte",
        contract="",
        device="cpu",
        case=case,
        place=Place(name="memory", observed="0x01", expected="0x02"),
        versions={"torch": "2.13.0"},
    )
    return kind_named("transfer").script(finding, expect_transfer(case))


@pytest.fixture(scope="session")
def nixl() -> None:
    try:
        installed()
    except NixlMissingError as error:
        pytest.skip(str(error))


def run(script: Path, package: Path) -> subprocess.CompletedProcess[str]:
    """The script where nothing but `ir` can be imported of this repository."""
    return subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(package)},
        cwd=script.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("nixl")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_script_exits_1_while_the_fault_is_there_and_shows_its_place(name: str, tmp_path: Path):
    fault, file, (old, new), place = MUTANTS[name]
    shutil.copytree(ROOT / "ir", tmp_path / "ir", ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "script.py"
    script.write_text(script_of(transfer(fault, push=False, blocks=3)))
    broken = tmp_path / file
    source = broken.read_text()
    assert source.count(old) == 1
    broken.write_text(source.replace(old, new))
    done = run(script, tmp_path)
    assert done.returncode == 1
    assert any(line.startswith(place) for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.usefixtures("nixl")
@pytest.mark.parametrize(
    ("fault", "route", "push"),
    [
        ("", "nixl", False),
        ("", "nixl-tcp", True),
        ("kill", "nixl-tcp", False),
        ("stop", "nixl-tcp", False),
        ("restart", "nixl", False),
        ("garble", "nixl", False),
        ("abort", "nixl-tcp", True),
    ],
)
def test_a_script_exits_0_without_a_fault(fault: str, route: str, push: bool, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(script_of(transfer(fault, push=push), route))
    done = run(script, ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no fault\n", "")


def test_a_script_without_nixl_says_that_it_cannot_run(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(script_of(transfer("kill", push=False)))
    (tmp_path / "ir").mkdir()
    (tmp_path / "ir" / "__init__.py").write_text("")
    done = run(script, tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith("cannot run: ")


def test_no_script_asks_engines_for_a_case_that_is_refused():
    case = transfer("kill", push=False)
    with pytest.raises(ScriptError, match="accepted: one good request"):
        script_of(replace(case, requests=case.requests * 2))
