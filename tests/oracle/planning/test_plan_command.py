"""``irverify plan`` at the command line: what it prints, writes and refuses."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from oracle import cli


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["irverify", "plan", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


ROOT = Path(__file__).resolve().parents[3]
PAIR = ("--prefill-tp", "4", "--decode-tp", "1")


def test_a_plan_is_printed_drawn_and_written(monkeypatch, capsys, tmp_path):
    html, data = tmp_path / "plan.html", tmp_path / "plan.json"
    model = ("--model", "nemotron-3-nano-30b")
    assert _main(monkeypatch, *model, *PAIR, "--html", str(html), "--json", str(data)) == 0
    said = capsys.readouterr().out
    assert said.startswith("Nemotron-3-Nano-30B: prefill TP 4 to decode TP 1\n")
    assert "physical blocks per logical 131               261" in said
    assert html.read_text("utf-8").startswith("<!doctype html>")
    written = json.loads(data.read_text("utf-8"))
    assert (written["producer"]["tp"], written["ranks"][0]["consumer"]) == (4, [0, 0])
    assert sum(s["bytes"] for s in written["ranks"][0]["sources"]) == 55_373_824


def test_a_plan_is_printed_alone(monkeypatch, capsys):
    assert _main(monkeypatch, "--model", "deepseek-v3", *PAIR) == 0
    assert "nothing is read from prefill 1-3: copies\n" in capsys.readouterr().out


def test_the_command_in_the_readme_runs(monkeypatch, capsys, tmp_path):
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(".venv/bin/irverify plan ")]
    monkeypatch.chdir(tmp_path)
    assert _main(monkeypatch, *shlex.split(line)[2:]) == 0
    assert capsys.readouterr().out
    assert (tmp_path / "plan.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "llama", *PAIR), "irverify: model 'llama' is more than one; accepted: "),
        (
            ("--model", "llama-3.1-8b", "--prefill-tp", "3", "--decode-tp", "5"),
            "irverify: Llama-3.1-8B from prefill TP 3 to decode TP 5: engine 'prefill': tp is 3, "
            "engine 'decode': tp is 5; accepted: a divisor of the 32 query heads; for "
            "Llama-3.1-8B 1, 2, 4, 8, 16 or 32\n",
        ),
        (
            ("--model", "llama-3.1-8b", *PAIR, "--decode-layout", "HDN"),
            "irverify: decode layout 'HDN'; accepted: HND or NHD (see irverify --help)\n",
        ),
        (
            ("--model", "llama-3.1-8b", *PAIR, "--decode-pp", "33"),
            "irverify: decode pp 33; accepted: 1 to 32 for ",
        ),
        # Its last layer caches nothing: a stage of its own would be empty.
        (
            ("--model", "nemotron", *PAIR, "--prefill-pp", "27"),
            "irverify: prefill pp 27; accepted: 1 to 26 ",
        ),
        (("--model", "llama-3.1-8b", *PAIR, "--html", "/nonexistent/x"), "irverify: [Errno 2] "),
        (PAIR, "irverify: Missing option '--model'"),
    ],
)
def test_what_cannot_be_planned_exits_2_with_one_line(monkeypatch, capsys, arguments, said: str):
    assert _main(monkeypatch, *arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith(said)
    assert streams.err.count("\n") == 1


def test_the_command_alone_imports_no_planner():
    code = (
        "import sys, oracle.planning.running\n"
        "print(sorted({'torch', 'ir', 'vllm'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
