"""What scripts are made of: memory, fills and intervals as Python text that means exactly them."""

import ast
import base64
import math
import zlib

import numpy as np
import pytest
import torch

from oracle.scripts.call import embedded
from oracle.scripts.fill import fill_functions
from oracle.scripts.literal import LITERAL, element, output_lines, storage_lines, wrapped
from reference.dtypes import FORMATS
from reference.expectation import ExpectedOutput
from reference.interval import Interval
from reference.model import PATTERNS, Fill, Storage

NAMES = {"torch": torch, "inf": math.inf, "nan": math.nan, "base64": base64, "zlib": zlib}
FLOATS = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float64")


def _made(storage: Storage) -> tuple[bytes, str]:
    """The bytes of the tensor that the storage's text makes, and the text."""
    text = storage_lines("s", storage, indent=0)
    names = dict(NAMES)
    exec(text, names)
    tensor = names["s"]
    assert str(tensor.dtype) == f"torch.{storage.dtype}"
    assert tensor.shape == (storage.numel,)
    return tensor.view(torch.uint8).numpy().tobytes(), text


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("numel", [0, 1, 3, 64, 65, 200])
def test_any_bytes_come_back_bit_for_bit(dtype: str, numel: int):
    rng = np.random.default_rng(numel)
    raw = rng.integers(0, 2 if dtype == "bool" else 256, numel * FORMATS[dtype].size)
    storage = Storage(dtype, numel, raw.astype(np.uint8).tobytes())
    assert _made(storage)[0] == storage.content


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_are_readable(dtype: str):
    fmt = FORMATS[dtype]
    values = [0.0, -0.0, 1.0, fmt.max, -fmt.max, fmt.min_normal, -fmt.min_subnormal]
    values += [math.inf, -math.inf] if fmt.has_inf else []
    # Its NaN has other bits in torch.
    values += [math.nan] if dtype != "float8_e5m2" else []
    storage = Storage(dtype, len(values), np.array(values).astype(fmt.dtype).tobytes())
    made, text = _made(storage)
    assert made == storage.content
    assert "torch.tensor([" in text


def test_a_nan_that_torch_writes_otherwise_is_written_as_bytes():
    made, text = _made(Storage("float8_e5m2", 2, b"\x7e\x3c"))
    assert made == b"\x7e\x3c"
    assert "bytearray.fromhex" in text


def test_a_value_has_the_fewest_digits_and_its_exact_form_beside_it():
    storage = Storage("float32", 2, np.array([0.1, 1 / 3], np.float32).tobytes())
    assert storage_lines("s", storage, indent=4) == (
        "    # 0x1.99999ap-4, 0x1.555556p-2\n"
        "    s = torch.tensor([0.1, 0.33333334], dtype=torch.float32)"
    )


def test_the_exact_form_of_what_has_none_is_its_name():
    storage = Storage("float32", 2, np.array([1 / 3, np.nan], np.float32).tobytes())
    assert storage_lines("s", storage, indent=0).startswith("# 0x1.555556p-2, nan\n")


def test_a_nan_with_a_payload_is_written_as_bytes():
    storage = Storage("bfloat16", 2, b"\xc1\xff\x80\x3f")
    made, text = _made(storage)
    assert made == storage.content
    assert 'bytearray.fromhex(\n        "c1ff803f"' in text


def test_a_long_literal_is_packed():
    content = np.arange(LITERAL + 1, dtype=np.int32).tobytes()
    made, text = _made(Storage("int32", LITERAL + 1, content))
    assert made == content
    assert "zlib.decompress(base64.b85decode(" in text


FILLS = [
    *((pattern, dtype) for pattern in PATTERNS for dtype in ("float32", "float16", "bfloat16")),
    *((pattern, "float64") for pattern in ("normal", "wide", "special")),
    *((pattern, "int64") for pattern in ("zeros", "ones", "index")),
]


@pytest.mark.parametrize(("pattern", "dtype"), FILLS)
@pytest.mark.parametrize("key", [0, 3, (1 << 64) - 1])
def test_a_long_fill_makes_the_bytes_of_the_reference(pattern: str, dtype: str, key: int):
    storage = Storage(dtype, LITERAL + 3, Fill(pattern, key, 1000))
    names = dict(NAMES)
    exec(fill_functions({(pattern, dtype)}), names)
    exec(storage_lines("s", storage, indent=0), names)
    made = names["s"].view(torch.uint8).numpy().tobytes()
    assert made == storage.array().tobytes()


def test_a_short_fill_is_written_out():
    storage = Storage("float32", 2, Fill("ones", 1))
    assert (
        storage_lines("s", storage, indent=0) == "s = torch.tensor([1.0, 1.0], dtype=torch.float32)"
    )


def test_no_fill_needs_no_functions():
    assert fill_functions(set()) == ""


def test_a_fill_that_no_text_says_is_refused():
    with pytest.raises(ValueError, match="fill pattern 'noise'; accepted: dyadic, index"):
        fill_functions({("noise", "float32")})


@pytest.mark.parametrize(
    ("low", "high", "nan", "text"),
    [
        (1.0, 1.0, 0, "1.0"),
        (-0.0, 0.0, 0, "(-0.0, 0.0)"),
        (-0.0, -0.0, 0, "-0.0"),
        (1.0, math.inf, 0, "(1.0, inf)"),
        (math.nan, math.nan, 2, "nan"),
        (1.0, 2.0, 1, "(1.0, 2.0, nan)"),
    ],
)
def test_an_element_says_what_it_may_be(low: float, high: float, nan: int, text: str):
    assert element(low, high, nan) == text


def _output(size: int) -> ExpectedOutput:
    values = np.arange(size, dtype=np.float64)
    return ExpectedOutput(
        name="y",
        dtype="float32",
        shape=(size,),
        strides=None,
        interval=Interval(values, values, np.zeros(size, np.uint8)),
        cancellation=False,
        may_alias=None,
    )


def _read(text: str):
    return eval(f"[{text}]", dict(NAMES))[0]


@pytest.mark.parametrize("size", [0, 1, 40, LITERAL])
def test_an_output_is_complete_while_it_is_small(size: int):
    *head, elements = _read(output_lines(_output(size), None, elements=True, indent=4))
    assert head == ["y", torch.float32, (size,), None]
    assert elements == [float(i) for i in range(size)]


@pytest.mark.parametrize("place", [None, 0, 4321])
def test_a_large_output_is_a_spread_with_the_place(place: int | None):
    text = output_lines(_output(10_000), place, elements=True, indent=4)
    elements = _read(text)[4]
    assert {0, 9_999} <= set(elements)
    assert place is None or place in elements
    assert 500 < len(elements) < LITERAL
    assert all(float(i) == value for i, value in elements.items())
    assert max(map(len, text.splitlines())) <= 96


def test_an_output_may_be_metadata_alone():
    assert output_lines(_output(3), None, elements=False, indent=1) == (
        ' ("y", torch.float32, (3,), None),'
    )


def test_a_long_line_is_broken_between_items():
    assert wrapped("f(", ["1"] * 3, ")", indent=2) == "  f(1, 1, 1)"
    assert wrapped("f(", ["a" * 40] * 3, ")", indent=2) == (
        f"  f(\n      {'a' * 40}, {'a' * 40},\n      {'a' * 40},\n  )"
    )
    each = wrapped("f(", ["a" * 60] * 2, ")", indent=0, each=True)
    assert each == f"f(\n    {'a' * 60},\n    {'a' * 60},\n)"


TEXTS = [
    "",
    "import torch\n",
    "\n\nx = 1",
    "s = '''three'''\n",
    "s = '''three'''\nt = \"\"\"three\"\"\"\n",
    "ends in a backslash \\",
    "ends in a quote '",
    "windows\r\nlines\r\n",
    "form\ffeed and \x00 nothing\n",
    "raw = r'\\d' + '\\n'\n",
    "é ∑ 𝄞\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_file_is_embedded_exactly(text: str):
    assert ast.literal_eval(embedded(text)) == text


def test_an_ordinary_file_is_embedded_as_it_stands():
    assert embedded("import torch\nx = '\\n'\n") == "r'''import torch\nx = '\\n'\n'''"
