"""The command line: one line for wrong use, and no torch before it is needed."""

import subprocess
import sys

import pytest

from oracle import cli


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["irverify", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--bogus"), "irverify: No such option: --bogus (see irverify --help)\n"),
        (("run", "--workers", "two"), "irverify: Invalid value for '--workers': "),
        (("sing",), "irverify: No such command 'sing'. (see irverify --help)\n"),
        (("replay",), "irverify: Missing argument "),
        (("run", "--op", "softmax"), "irverify: op 'softmax'; accepted: rms_norm, "),
        (("run", "--property", "taste"), "irverify: property 'taste'; accepted: numerics, "),
        (("run", "--subject", "me"), "irverify: subject 'me'; accepted: ir, reference, torch\n"),
        (("run", "--case-timeout", "0"), "irverify: case timeout 0.0; accepted: "),
        (("run", "--subject", "reference", "--budget", "²"), "irverify: budget '²'; accepted: "),
        (("run", "--subject", "reference", "--budget", "0"), "irverify: budget 0; accepted: "),
        (("list", "songs"), "irverify: list 'songs'; accepted: subjects, properties, ops, "),
        (("replay", "no-such"), "irverify: no finding 'no-such'; accepted: "),
    ],
)
def test_wrong_use_exits_2_with_one_line_on_stderr(monkeypatch, capsys, arguments, said: str):
    assert _main(monkeypatch, *arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith(said)
    assert streams.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run", "--help")])
def test_help_exits_0(monkeypatch, capsys, arguments):
    assert _main(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.startswith("Usage: irverify")


def test_a_run_exits_with_what_it_found(monkeypatch, capsys, tmp_path):
    path = tmp_path / "events.ndjson"
    arguments = ["run", "--subject", "reference", "--op", "rms_norm", "--workers", "1", "--ndjson"]
    assert _main(monkeypatch, *arguments, str(path), "--budget", "10") == 0
    assert "(exit 0)" in capsys.readouterr().out
    assert path.read_text("utf-8").count("\n") > 20
    assert _main(monkeypatch, *arguments, str(path), "--budget", "1") == 3
    said = capsys.readouterr().out
    assert "nothing decided: reference numerics rms_norm 1 reference\n" in said


def test_an_interrupted_run_exits_130(monkeypatch):
    def interrupted(*_args: object, **_kwargs: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert _main(monkeypatch, "run") == 130


@pytest.mark.parametrize("arguments", ["--help", "run --help", "list judges", "list ops"])
def test_torch_is_not_imported_to_say_what_there_is(arguments: str):
    code = (
        "import sys\nfrom oracle.cli import main\n"
        f"sys.argv = ['irverify', *{arguments.split()!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'triton', 'ir'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
