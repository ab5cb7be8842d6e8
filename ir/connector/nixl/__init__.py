"""KV of a prompt that one engine computes and another decodes from, over NIXL.

prefill = EngineSetup(engine_id="P", role=Role.PRODUCER, tp=2)
decode = EngineSetup(engine_id="D", role=Role.CONSUMER, tp=1)
with ServedEngine(prefill) as p, ServedEngine(decode) as d:
    d.meet(p)
    served = serve_apart(p, d, {"r0": (1, 2, 3, 4, 5)}, tokens=3)
    served.done, served.failed
"""

from ir.connector.nixl.connector import NixlConnector
from ir.connector.nixl.file_connector import NixlFileConnector
from ir.connector.nixl.handover import Prefilled, Role
from ir.connector.nixl.served import ServedEngine, serve_apart
from ir.connector.nixl.serving import EngineSetup, Served, ServingEngine
from ir.connector.nixl.tensor_parallel import TensorParallelModel
from ir.connector.nixl.transport import Transport, in_process

__all__ = [
    "EngineSetup",
    "NixlConnector",
    "NixlFileConnector",
    "Prefilled",
    "Role",
    "Served",
    "ServedEngine",
    "ServingEngine",
    "TensorParallelModel",
    "Transport",
    "in_process",
    "serve_apart",
]
