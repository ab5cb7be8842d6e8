"""The KV-connector contract, its lifecycle, connectors to disk, and a runner that calls them.

runner = Runner(PagedModel(ModelSize()), FileConnector(root, model="m", block_size=4),
                GraphMode.FULL)
runner.warm_up()
result = runner.step(scheduler.step())
"""

from ir.connector.contract import (
    EMPTY,
    ClaimingSide,
    Connector,
    Finished,
    GraphPolicy,
    ScheduledRequest,
    SchedulerOutput,
    SchedulerSide,
    WorkerSide,
)
from ir.connector.errors import (
    ConnectorError,
    LifecycleError,
    LoadError,
    NotStagedError,
    PolicyError,
)
from ir.connector.layerwise import FileConnector
from ir.connector.lifecycle import Prepared, WorkerStep, prepare, worker_step
from ir.connector.model import ModelSize, PagedModel
from ir.connector.policy import GraphMode, graph_mode
from ir.connector.runner import Runner, StepResult
from ir.connector.scheduler import Scheduler
from ir.connector.staged import StagedFileConnector
from ir.connector.store import FileStore

__all__ = [
    "EMPTY",
    "ClaimingSide",
    "Connector",
    "ConnectorError",
    "FileConnector",
    "FileStore",
    "Finished",
    "GraphMode",
    "GraphPolicy",
    "LifecycleError",
    "LoadError",
    "ModelSize",
    "NotStagedError",
    "PagedModel",
    "PolicyError",
    "Prepared",
    "Runner",
    "ScheduledRequest",
    "Scheduler",
    "SchedulerOutput",
    "SchedulerSide",
    "StagedFileConnector",
    "StepResult",
    "WorkerSide",
    "WorkerStep",
    "graph_mode",
    "prepare",
    "worker_step",
]
