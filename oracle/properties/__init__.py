"""The properties by name. Each knows its streams of cases and the judges that apply."""

from collections.abc import Mapping
from types import MappingProxyType

from oracle.plan import Property

from .addresses import ADDRESSES
from .clones import CLONES
from .connector import CONNECTOR
from .contract import CONTRACT
from .lowering import LOWERING
from .numerics import NUMERICS
from .state import STATE
from .transfer import TRANSFER

PROPERTIES: Mapping[str, Property] = MappingProxyType(
    {
        p.name: p
        for p in (NUMERICS, CONTRACT, LOWERING, CLONES, TRANSFER, CONNECTOR, STATE, ADDRESSES)
    }
)

__all__ = ["PROPERTIES"]
