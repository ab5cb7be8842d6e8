"""The process of an engine that a cluster drives, and the memory that both see."""

from __future__ import annotations

import os
from pathlib import Path

from .binding import installed
from .child import ChildProcess
from .slab import Slab, new_file

# An engine needs NumPy and NIXL; `import ir` would bring torch, several times as long to start.
_PROGRAM = """
import sys, types
package = types.ModuleType("ir")
package.__path__ = [sys.argv[1]]
sys.modules["ir"] = package
from ir.transfer.nixl.host import main
main(sys.argv[2], *map(int, sys.argv[3:]))
"""


class EngineProcess(ChildProcess):
    """One engine's process, which may be killed, stopped and started again on the same memory.

    Raises `NixlMissingError`.
    """

    def __init__(self, name: str, *, tls: str | None, slab_bytes: int) -> None:
        installed()
        self._file = new_file(slab_bytes)
        self.slab = Slab(self._file, slab_bytes)
        package = str(Path(__file__).parents[2])
        super().__init__(
            name,
            tls=tls,
            program=_PROGRAM,
            arguments=(package, name, str(slab_bytes)),
            files=(self._file,),
        )

    def close(self) -> None:
        """Kill it and give its memory's file back."""
        super().close()
        os.close(self._file)
