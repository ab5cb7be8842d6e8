"""What a tensor's memory holds, short enough to keep and compare."""

from __future__ import annotations

import ctypes
import hashlib

from torch import Tensor

from ir.capture.tape import storage_bytes


def digest(t: Tensor) -> bytes:
    """Of the whole storage."""
    data = storage_bytes(t).cpu()
    # torch never again resizes a storage that NumPy has seen, so the bytes are read in place.
    view = (ctypes.c_char * data.numel()).from_address(data.data_ptr()) if data.numel() else b""
    return hashlib.blake2b(view, digest_size=16).digest()
