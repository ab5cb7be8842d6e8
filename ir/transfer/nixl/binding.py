"""The part of NIXL's Python binding that is used, whichever CUDA it was built for."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import NixlMissingError, PluginMissingError
from .port import Handle

MODULES = ("nixl_cu12._api", "nixl_cu13._api")
LOCAL = "NIXL_INIT_AGENT"


class Descriptors(Protocol):
    """NIXL's own list of (address, length, device)."""

    def descCount(self) -> int: ...


class Agent(Protocol):
    """Methods of `nixl_agent`. All of them raise errors of the binding, of no common base."""

    plugin_list: Sequence[str]

    def register_memory(
        self, reg_list: NDArray[np.uint64] | list[tuple[int, int, int, str]], mem_type: str
    ) -> object: ...
    def deregister_memory(self, dereg_list: object) -> None: ...
    def get_agent_metadata(self) -> bytes: ...
    def add_remote_agent(self, metadata: bytes) -> str | bytes: ...
    def remove_remote_agent(self, agent: str) -> None: ...
    def prep_xfer_dlist(
        self, agent_name: str, xfer_list: NDArray[np.uint64], mem_type: str
    ) -> Handle: ...
    def make_prepped_xfer(
        self,
        operation: str,
        local_xfer_side: Handle,
        local_indices: NDArray[np.int32],
        remote_xfer_side: Handle,
        remote_indices: NDArray[np.int32],
        notif_msg: bytes = b"",
    ) -> Handle: ...
    def get_xfer_descs(self, descs: NDArray[np.uint64], mem_type: str) -> Descriptors: ...
    def initialize_xfer(
        self,
        operation: str,
        local_descs: Descriptors,
        remote_descs: Descriptors,
        remote_agent: str,
        notif_msg: bytes = b"",
    ) -> Handle: ...
    def transfer(self, handle: Handle) -> str: ...
    def check_xfer_state(self, handle: Handle) -> str: ...
    def get_new_notifs(self) -> dict[str, list[bytes]]: ...
    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None: ...


def installed() -> str:
    """The module that holds the binding. Raises `NixlMissingError`."""
    for name in MODULES:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return name
    raise NixlMissingError


def open_file_agent(name: str) -> Agent:
    """A NIXL agent over its POSIX backend, for files. Raises `NixlMissingError`."""
    api = importlib.import_module(installed())
    agent = api.nixl_agent(name, api.nixl_agent_config(enable_prog_thread=False, backends=[]))
    if "POSIX" not in agent.plugin_list:
        raise PluginMissingError("POSIX", tuple(agent.plugin_list))
    try:
        agent.create_backend("POSIX")
    except Exception as error:  # the binding's errors have no base of their own
        raise PluginMissingError("POSIX", (repr(error),)) from error
    return agent


def open_agent(name: str) -> Agent:
    """A NIXL agent over UCX, without a progress thread: whoever owns it must poll it.

    The threads spin, one core each, also where nothing moves. Raises `NixlMissingError`.
    """
    api = importlib.import_module(installed())
    config = api.nixl_agent_config(enable_prog_thread=False, backends=["UCX"])
    return api.nixl_agent(name, config)
