"""A user's registrations: found by path or by name, refused with the reason."""

import sys
from pathlib import Path

import pytest

from oracle.errors import UsageError
from oracle.subjects.user_code import import_user_code


def test_a_file_is_imported_with_its_neighbours(tmp_path: Path):
    (tmp_path / "irverify_neighbour.py").write_text("VALUE = 41\n")
    path = tmp_path / "mine.py"
    path.write_text("import irverify_neighbour\nVALUE = irverify_neighbour.VALUE + 1\n")
    before = list(sys.path)
    assert import_user_code(str(path)) == str(path.resolve())
    assert sys.modules["irverify_user_mine"].VALUE == 42
    assert sys.path == before


def test_a_module_is_imported_by_name():
    assert import_user_code("oracle.scratch").endswith("scratch.py")
    assert import_user_code("sys") == "sys"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("nowhere.py", "--import nowhere.py: no such file; accepted: a .py file or a module name"),
        ("no_such_module", "--import no_such_module: ModuleNotFoundError: No module named"),
    ],
)
def test_what_is_not_there_is_named(item: str, message: str):
    with pytest.raises(UsageError) as error:
        import_user_code(item)
    assert str(error.value).startswith(message)


def test_a_file_that_fails_says_how_and_leaves_nothing(tmp_path: Path):
    path = tmp_path / "broken.py"
    path.write_text("raise ValueError('epsilon')\n")
    with pytest.raises(UsageError, match=r"broken\.py: ValueError: epsilon"):
        import_user_code(str(path))
    assert "irverify_user_broken" not in sys.modules
    assert str(tmp_path) not in sys.path
