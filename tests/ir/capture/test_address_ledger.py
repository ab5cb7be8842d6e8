"""A replay on memory that its owner no longer holds is refused, and the owner is named."""

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ir.capture import StaleAddress, capture


class Block(nn.Module):
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4), requires_grad=False)
        self.register_buffer("scale", torch.ones(4))
        self.derived = self.weight.t().contiguous()
        self.inner = nn.ModuleList([nn.Linear(4, 4, bias=False)])
        self.held: dict[str, list[Tensor]] = {"workspace": [torch.zeros(4)]}

    def forward(self, x: Tensor) -> Tensor:
        workspace = self.held["workspace"][0]
        workspace.copy_(x @ self.weight)
        return (workspace * self.scale) @ self.derived + self.inner[0](x)


def reload_weight(block: Block) -> None:
    block.weight = nn.Parameter(torch.randn(4, 4), requires_grad=False)


def reload_by_data(block: Block) -> None:
    block.weight.data = torch.randn(4, 4)


def rederive(block: Block) -> None:
    block.derived = block.weight.t().contiguous()


def load_state_assigned(block: Block) -> None:
    state = {name: value.clone() for name, value in block.state_dict().items()}
    block.load_state_dict(state, assign=True)


def convert_buffer(block: Block) -> None:
    block.scale = block.scale.to(torch.float64)


def copy_buffer(block: Block) -> None:
    block.scale = block.scale.to("cpu", copy=True)


def replace_submodule(block: Block) -> None:
    block.inner[0] = nn.Linear(4, 4, bias=False)


def resize_workspace(block: Block) -> None:
    block.held["workspace"][0].resize_(4096)


def shrink_workspace(block: Block) -> None:
    block.held["workspace"][0].untyped_storage().resize_(4)


def free_and_reuse(block: Block) -> None:
    del block.held["workspace"][0]
    gc.collect()
    # Of the same size: an allocator may well give the same block to a stranger.
    block.held["stranger"] = [torch.zeros(4)]


def drop_container(block: Block) -> None:
    block.held = {}


def transpose_in_place(block: Block) -> None:
    block.derived.t_()


CHANGES: list[tuple[Callable[[Block], None], str]] = [
    (reload_weight, "block.weight"),
    (reload_by_data, "block.weight"),
    (rederive, "block.derived"),
    (load_state_assigned, "block.weight"),
    (convert_buffer, "block.scale"),
    (copy_buffer, "block.scale"),
    (replace_submodule, "block.inner.0.weight"),
    (resize_workspace, "block.held['workspace'][0]"),
    (shrink_workspace, "block.held['workspace'][0]"),
    (free_and_reuse, "block.held['workspace'][0]"),
    (drop_container, "block.held['workspace'][0]"),
    (transpose_in_place, "block.derived"),
]


@pytest.mark.parametrize(("change", "owner"), CHANGES, ids=[c.__name__ for c, _ in CHANGES])
def test_memory_that_an_owner_gave_up_stops_the_replay(change: Callable, owner: str):
    block = Block()
    graph = capture(block, torch.ones(4))
    graph.replay(torch.randn(4))
    change(block)
    with pytest.raises(StaleAddress) as stale:
        graph.replay(torch.randn(4))
    assert stale.value.owner == owner
    assert stale.value.was != stale.value.now


def test_values_may_change_and_so_may_what_the_graph_does_not_use():
    block = Block()
    graph = capture(block, torch.ones(4))
    block.weight.copy_(torch.randn(4, 4))
    block.derived.copy_(block.weight.t())
    block.load_state_dict({k: v * 2 for k, v in block.state_dict().items()})
    block.unused = torch.zeros(3)
    x = torch.randn(4)
    got = graph.replay(x)
    assert isinstance(got, Tensor)
    assert torch.equal(got, block(x))


def test_another_object_on_the_same_memory_is_no_other_memory():
    block = Block()
    graph = capture(block, torch.ones(4))
    block.derived = block.derived.view(4, 4)
    block.held = dict(block.held)
    x = torch.randn(4)
    got = graph.replay(x)
    assert isinstance(got, Tensor)
    assert torch.equal(got, block(x))


def test_a_static_input_or_output_that_moved_stops_the_replay():
    x = torch.zeros(4)
    graph = capture(lambda x: x * 2, x)
    x.data = torch.ones(4)
    with pytest.raises(StaleAddress, match="input x"):
        graph.replay()
    graph = capture(lambda x: x * 2, torch.zeros(4))
    assert isinstance(graph.outputs, Tensor)
    graph.outputs.resize_(4096)
    with pytest.raises(StaleAddress, match="output 0"):
        graph.replay()


def test_the_ledger_names_each_owner_with_its_kind():
    table = torch.ones(4)
    block = Block()

    def step(x: Tensor) -> Tensor:
        return block(x) + table

    graph = capture(step, torch.ones(4))
    assert [(e.owner, e.kind) for e in graph.ledger.entries] == [
        ("input x", "input"),
        ("table", "attribute"),
        ("block.weight", "parameter"),
        ("block.scale", "buffer"),
        ("block.derived", "attribute"),
        ("block.inner.0.weight", "parameter"),
        ("block.held['workspace'][0]", "attribute"),
        ("output 0", "output"),
    ]


def test_an_owner_that_is_only_returned_is_owned_too():
    holder = Block()
    graph = capture(lambda x: (x + 1, holder.scale), torch.ones(4))
    assert [e.owner for e in graph.ledger.entries] == [
        "input x", "holder.scale", "output 0", "output 1"
    ]  # fmt: skip
    holder.scale = torch.zeros(4)
    with pytest.raises(StaleAddress, match=r"holder\.scale"):
        graph.replay()


def test_memory_without_an_owner_is_kept_by_the_graph():
    class Hidden:
        __slots__ = ()

        def tensor(self) -> Tensor:
            return REGISTRY[0]

    hidden = Hidden()
    graph = capture(lambda x: x + hidden.tensor(), torch.ones(4))
    kinds = [e.kind for e in graph.ledger.entries]
    assert kinds == ["input", "unnamed", "output"]
    address = REGISTRY[0].data_ptr()
    REGISTRY.clear()
    strangers = [torch.zeros(4) for _ in range(50)]
    assert address not in {t.data_ptr() for t in strangers}
    got = graph.replay(torch.ones(4))
    assert isinstance(got, Tensor)
    assert torch.equal(got, torch.full((4,), 4.0))


REGISTRY = [torch.full((4,), 3.0)]


def test_an_owner_given_by_name_is_followed():
    registry = {"a": torch.full((4,), 3.0)}
    read = registry.__getitem__
    graph = capture(lambda x: x + read("a"), torch.ones(4), owners={"registry": registry})
    assert [e.owner for e in graph.ledger.entries][1] == "registry['a']"
    registry["a"] = torch.zeros(4)
    with pytest.raises(StaleAddress, match=r"registry\['a'\]"):
        graph.replay()
