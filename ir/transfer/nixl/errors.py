"""Why NIXL cannot be used, or a peer cannot be spoken to."""

from __future__ import annotations

from ..errors import TransferError


class NixlMissingError(TransferError):
    """NIXL is an extra that is not installed."""

    def __str__(self) -> str:
        return "nixl: not installed (pip install 'irverify[nixl]')"


class PluginMissingError(NixlMissingError):
    """NIXL is there, without a plugin that works."""

    def __init__(self, plugin: str, found: tuple[str, ...]) -> None:
        super().__init__(plugin, found)
        self.plugin = plugin
        self.found = found

    def __str__(self) -> str:
        return f"nixl: plugin {self.plugin} does not work: found {', '.join(self.found)}"


class FileError(TransferError):
    """A file that cannot be written, or that is not what was saved: nothing of it is used."""

    def __init__(self, path: object, got: object, accepted: str) -> None:
        super().__init__(path, got, accepted)
        self.path = path
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return f"file {str(self.path)!r} is {self.got}; accepted: {self.accepted}"


class HandshakeError(TransferError):
    """What a peer sent, or did not send, cannot be taken for a handshake."""

    def __init__(self, engine: str, peer: str, got: object, accepted: str) -> None:
        super().__init__(engine, peer, got, accepted)
        self.engine = engine
        self.peer = peer
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return (
            f"engine {self.engine!r}, handshake with {self.peer}: got {self.got}; "
            f"accepted: {self.accepted}"
        )


class StillLandingError(HandshakeError):
    """A new life of a producer is not met yet: data of its earlier one may still land here.

    It may be called again once the engine no longer `awaits` the `producer`.
    """

    def __init__(self, engine: str, producer: str) -> None:
        super().__init__(
            engine, repr(producer), "a new life", "one once the old has no data to land"
        )
        self.args = (engine, producer)
        self.producer = producer


class PeerError(TransferError):
    """A peer is not there, or no longer: its requests fail and nothing else does."""

    def __init__(self, engine: str, peer: str, got: object, accepted: str) -> None:
        super().__init__(engine, peer, got, accepted)
        self.engine = engine
        self.peer = peer
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return (
            f"engine {self.engine!r}: peer {self.peer!r} is {self.got}; accepted: {self.accepted}"
        )
