"""KV of a prompt that one engine computes and another decodes from, over NIXL."""

from ir.connector.nixl.connector import NixlConnector
from ir.connector.nixl.handover import Prefilled, Role
from ir.connector.nixl.tensor_parallel import TensorParallelModel
from ir.connector.nixl.transport import Transport, in_process

__all__ = ["NixlConnector", "Prefilled", "Role", "TensorParallelModel", "Transport", "in_process"]
