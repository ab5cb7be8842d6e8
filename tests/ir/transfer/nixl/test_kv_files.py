"""KV on disk through NIXL's POSIX backend: whole, byte for byte, or refused."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import reference.transfer as rt
from ir.transfer import DescriptorError, EngineGeometry, IncompatibleEnginesError, RequestError
from ir.transfer import groups as make
from ir.transfer.groups import ModelCache
from ir.transfer.nixl import FileError, KvFiles, posix
from ir.transfer.nixl.posix import MOST_BLOCKS, FileAgent

ROOT = Path(__file__).resolve().parents[4]
CASES = 60
SENTINEL = 0x5C

pytestmark = pytest.mark.usefixtures("nixl")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "NIXL_LOG_LEVEL", "FATAL")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, nixl: str) -> KvFiles:
    """One store for a module: an agent takes longer to open than a file to be written."""
    return KvFiles(tmp_path_factory.mktemp("kv"))


def bases_of(memory) -> dict:
    return {w: tuple(t.ctypes.data for t in tensors) for w, tensors in memory.items()}


def empty(engine: EngineGeometry) -> dict:
    return {
        w: tuple(
            np.full((engine.num_blocks, n), SENTINEL, dtype=np.uint8)
            for n in engine.page_strides(w.stage)
        )
        for w in engine.workers
    }


def held(transfers, engines, scenario) -> dict:
    p, transfer = scenario.producer, transfers.as_transfer(scenario.request)
    groups = transfers.cached_groups(p.model)
    return {
        w: tuple(
            engines.mixed(codes)
            for codes in rt.producer_memory(
                groups, transfers.as_engine(p), (w.stage, w.rank), transfer
            )
        )
        for w in p.workers
    }


def test_what_one_engine_saves_another_loads_byte_for_byte(transfers, engines, files: KvFiles):
    failed, resharded = {}, 0
    for seed in range(CASES):
        scenario = transfers.random_scenario(seed)
        request = scenario.request
        memory = held(transfers, engines, scenario)
        files.save(
            str(seed),
            scenario.producer,
            bases_of(memory),
            tokens=request.prompt_tokens,
            blocks=request.producer_blocks,
        )
        for tensors in memory.values():
            for tensor in tensors:
                tensor[:] = 0
        target = empty(scenario.consumer)
        got = files.load(
            str(seed),
            scenario.consumer,
            bases_of(target),
            blocks=request.consumer_blocks,
            cached_tokens=request.cached_tokens,
        )
        assert got == request.prompt_tokens
        resharded += scenario.producer.tp != scenario.consumer.tp
        if found := engines.memory_faults(scenario, target):
            failed[seed] = found
    assert failed == {}
    assert resharded > CASES // 4


GROUP = make.attention([0, 1], kv_heads=2, head_size=4, itemsize=2)
ENGINE = EngineGeometry(
    engine_id="E",
    model=ModelCache("m", 2, (GROUP,)),
    tp=2,
    num_blocks=9,
    block_tokens=4,
    kernel_tokens=4,
)
OTHER = replace(ENGINE, engine_id="F", tp=1)
BLOCKS = ((3, 1, 8),)


def filled(version: int) -> dict:
    memory = empty(ENGINE)
    for tensors in memory.values():
        for tensor in tensors:
            tensor[:] = version
    return memory


def save(files: KvFiles, key: str, version: int = 1) -> Path:
    memory = filled(version)
    files.save(key, ENGINE, bases_of(memory), tokens=10, blocks=BLOCKS)
    return files.path(key)


def load(files: KvFiles, key: str) -> dict:
    """Into another engine. Raises as `KvFiles.load`, and then not a byte has changed."""
    target = empty(OTHER)
    try:
        files.load(key, OTHER, bases_of(target), blocks=((1, 2, 3),))
    except Exception:
        assert all((t == SENTINEL).all() for of in target.values() for t in of)
        raise
    return target


def test_an_entry_is_there_once_it_is_saved_and_a_later_one_takes_its_place(files: KvFiles):
    assert not files.has("a")
    path = save(files, "a", 1)
    assert files.has("a")
    save(files, "a", 2)
    assert all((t[1:3] == 2).all() for of in load(files, "a").values() for t in of)
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_a_file_has_the_saved_blocks_of_each_rank_in_the_order_of_its_tensors(files: KvFiles):
    memory = empty(ENGINE)
    every = [tensor for tensors in memory.values() for tensor in tensors]
    for number, tensor in enumerate(every):
        tensor[:] = np.arange(10 * number, 10 * number + 9)[:, None]
    files.save("order", ENGINE, bases_of(memory), tokens=10, blocks=BLOCKS)
    whole = np.frombuffer(files.path("order").read_bytes(), dtype=np.uint8)
    assert whole.size == (1 + len(every)) * 4096
    page = ENGINE.page_strides(0)[0]
    for number in range(len(every)):
        pages = whole[(1 + number) * 4096 :][: 4 * page].reshape(4, page)
        assert [set(p.tolist()) for p in pages] == [
            {0},
            *({10 * number + block} for block in BLOCKS[0]),
        ]


def test_an_entry_that_is_not_there_is_refused(files: KvFiles):
    with pytest.raises(FileError, match="No such file or directory; accepted: an entry that was"):
        load(files, "never")


@pytest.mark.parametrize("left", [0, 3, 47, 48, 100, 4095, 4096, 4097, -4096, -1])
def test_a_torn_entry_is_refused(files: KvFiles, left: int):
    path = save(files, "torn")
    whole = path.read_bytes()
    assert len(load(files, "torn")) == 1
    path.write_bytes(whole[:left] if left >= 0 else whole[: len(whole) + left])
    with pytest.raises(FileError, match="; accepted: "):
        load(files, "torn")
    path.write_bytes(whole + b"\x00")
    with pytest.raises(FileError, match="bytes that its head tells of"):
        load(files, "torn")


def test_an_entry_of_which_any_byte_has_changed_is_refused(files: KvFiles):
    path = save(files, "changed")
    whole = path.read_bytes()
    head = 48 + int.from_bytes(whole[8:16], "little")
    start = head + -head % 4096
    # All of the head, and bytes of the tensors, the unused ones between them too.
    for at in [*range(0, head, 7), *range(start, len(whole), 997)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        with pytest.raises(FileError):
            load(files, "changed")
    path.write_bytes(whole)
    load(files, "changed")


def test_a_head_of_another_format_is_refused(files: KvFiles):
    path = save(files, "other")
    body = b'{"geometry": {}, "tokens": 1}'
    head = b"irkv\x00\x00\x00\x01" + len(body).to_bytes(8, "little")
    path.write_bytes(head + hashlib.sha256(body).digest() + body)
    with pytest.raises(FileError, match="another head: KeyError"):
        load(files, "other")


def test_an_engine_of_another_model_and_blocks_that_do_not_fit_are_refused(files: KvFiles):
    save(files, "m")
    unlike = replace(OTHER, model=ModelCache("n", 2, (GROUP,)))
    target = empty(unlike)
    with pytest.raises(IncompatibleEnginesError, match="producer 'file m' and consumer 'F' differ"):
        files.load("m", unlike, bases_of(target), blocks=((1, 2, 3),))
    with pytest.raises(RequestError, match="at least 3 for 10 tokens"):
        files.load("m", OTHER, bases_of(empty(OTHER)), blocks=((1, 2),))
    before = files.path("m").read_bytes()
    with pytest.raises(RequestError, match="0 to 8, of 9 blocks"):
        files.save("m", ENGINE, bases_of(filled(2)), tokens=10, blocks=((3, 1, 9),))
    assert files.path("m").read_bytes() == before


def test_a_disk_that_refuses_leaves_the_entry_that_was_there(files: KvFiles):
    save(files, "full", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(FileError, match=r"not written: .*File too large"):
            save(files, "full", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert all((t[1:3] == 1).all() for of in load(files, "full").values() for t in of)
    assert list(files.root.glob(".*.tmp")) == []


WRITER = """
import os, runpy, sys
os.environ["NIXL_LOG_LEVEL"] = "FATAL"
from pathlib import Path
here = runpy.run_path(sys.argv[2])
files = here["KvFiles"](Path(sys.argv[1]))
here["save"](files, "entry", 1)
print("ready", flush=True)
version = 1
while True:
    version = version % 200 + 1
    here["save"](files, "entry", version)
"""


def kill_while_it_saves(root: Path) -> None:
    """Start a writer, stop it again and again until it is in the middle of a save, and kill it."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), __file__],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 20
        while True:
            process.send_signal(signal.SIGSTOP)
            while not stands_still(process.pid):
                time.sleep(0.0005)
            if any(root.glob(".*.tmp")):
                break
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGCONT)
            time.sleep(0.001)
        process.kill()


def stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "Z")


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_the_old_entry_or_the_new_one(tmp_path: Path):
    store = KvFiles(tmp_path / "kv")
    for _ in range(3):
        kill_while_it_saves(store.root)
        tensors = [t for of in load(store, "entry").values() for t in of]
        assert len({int(v) for t in tensors for v in np.unique(t[1:3])}) == 1
        left = len(list(store.root.glob(".*.tmp")))
        assert left == 1
        assert store.sweep() == left
        assert list(store.root.glob(".*.tmp")) == []


def test_blocks_beyond_the_end_of_a_file_are_refused(tmp_path: Path):
    agent = FileAgent("short")
    memory = np.full(64, SENTINEL, dtype=np.uint8)
    path = tmp_path / "short"
    path.write_bytes(bytes(40))
    with open(path, "rb") as file, pytest.raises(FileError, match=r"not moved: .*accepted: a file"):
        agent.move(
            "READ",
            file.fileno(),
            path=path,
            memory=[(memory.ctypes.data, 64)],
            addresses=np.array([memory.ctypes.data], dtype=np.uint64),
            offsets=np.array([0], dtype=np.uint64),
            lengths=np.array([64]),
        )
    assert not agent.busy


def test_more_blocks_than_one_transfer_takes_are_moved(tmp_path: Path):
    agent, count = FileAgent("many"), 2 * MOST_BLOCKS + 7
    memory = np.arange(2 * count, dtype=np.uint16).view(np.uint8).reshape(count, 4).copy()
    # Every second pair of bytes, and backwards in the file, so that nothing can be joined.
    addresses = memory.ctypes.data + 4 * np.arange(count, dtype=np.uint64)
    offsets = 2 * np.arange(count, dtype=np.uint64)[::-1].copy()
    path, lengths = tmp_path / "many", np.full(count, 2)
    with open(path, "wb+") as file:
        agent.move(
            "WRITE",
            file.fileno(),
            path=path,
            memory=[(memory.ctypes.data, memory.size)],
            addresses=addresses,
            offsets=offsets,
            lengths=lengths,
        )
    got = np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(count, 2)
    assert np.array_equal(got[::-1], memory[:, :2])
    overlapping = np.zeros(count, dtype=np.uint64)
    with open(path, "rb+") as file, pytest.raises(DescriptorError, match="the end of a block"):
        agent.move(
            "WRITE",
            file.fileno(),
            path=path,
            memory=[(memory.ctypes.data, memory.size)],
            addresses=addresses,
            offsets=overlapping,
            lengths=lengths,
        )


MANY = 3000
"""More I/Os than the kernel takes at once: NIXL posts the rest when it is asked how they are."""


def scattered(memory: np.ndarray) -> dict:
    """Every second pair of bytes, and backwards in the file, so that nothing can be joined."""
    return {
        "memory": [(memory.ctypes.data, memory.nbytes)],
        "addresses": memory.ctypes.data + 4 * np.arange(MANY, dtype=np.uint64),
        "offsets": 2 * np.arange(MANY, dtype=np.uint64)[::-1].copy(),
        "lengths": np.full(MANY, 2),
    }


def until_free(agent: FileAgent | KvFiles) -> None:
    deadline = time.monotonic() + 10
    while agent.busy:
        assert time.monotonic() < deadline


def opened(root: Path) -> list[str]:
    """The files under `root` that this process has open."""
    found = (os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return [name for name in found if name.startswith(f"{root}/")]


def test_data_that_is_late_goes_to_its_file_whatever_is_opened_meanwhile(tmp_path: Path):
    agent = FileAgent("late", seconds=-1.0)
    memory = np.full((MANY, 4), 7, dtype=np.uint8)
    with open(tmp_path / "mine", "wb+") as file:
        number = file.fileno()
        with pytest.raises(FileError, match=r"still moving after -1.0 seconds"):
            agent.move("WRITE", number, path="mine", **scattered(memory))
    foreign: list[int] = []
    # The kernel gives the least that is free: other descriptors may have been closed meanwhile.
    while number not in foreign:
        foreign.append(os.open(tmp_path / "foreign", os.O_RDWR | os.O_CREAT))
        assert len(foreign) < 1000
    until_free(agent)
    for descriptor in foreign:
        os.close(descriptor)
    assert (tmp_path / "foreign").read_bytes() == b""
    assert (tmp_path / "mine").read_bytes() == b"\x07" * (2 * MANY)
    assert opened(tmp_path) == []


class Watched:
    """A real agent, that counts what is registered and may say something else of a transfer."""

    def __init__(self, agent, says) -> None:
        self._agent = agent
        self._says = says
        self.registered = 0

    def __getattr__(self, name: str):
        return getattr(self._agent, name)

    def register_memory(self, *args):
        self.registered += 1
        return self._agent.register_memory(*args)

    def deregister_memory(self, *args) -> None:
        self.registered -= 1
        self._agent.deregister_memory(*args)

    def check_xfer_state(self, handle) -> str:
        return self._says(self._agent.check_xfer_state(handle))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """The agents that were opened."""
    opened: list[Watched] = []
    real = posix.open_file_agent

    def open_watched(name: str) -> Watched:
        opened.append(Watched(real(name), lambda state: state))
        return opened[-1]

    monkeypatch.setattr(posix, "open_file_agent", open_watched)
    return opened


def test_registrations_of_late_transfers_end_with_them(tmp_path: Path, watched: list[Watched]):
    agent = FileAgent("late", seconds=-1.0)
    memory = np.zeros((MANY, 4), dtype=np.uint8)
    with open(tmp_path / "mine", "wb+") as file:
        for _ in range(4):
            with pytest.raises(FileError, match="still moving"):
                agent.move("WRITE", file.fileno(), path="mine", **scattered(memory))
        until_free(agent)
        assert watched[0].registered == 0
        with pytest.raises(FileError, match="still moving"):
            agent.move("WRITE", file.fileno(), path="mine", **scattered(memory))
        assert watched[0].registered == 2
        until_free(agent)
    assert [each.registered for each in watched] == [0]


def err(_: str) -> str:
    return "ERR"


def raises(_: str) -> str:
    raise RuntimeError("NIXL_ERR_BACKEND")


@pytest.mark.parametrize(
    ("says", "message"),
    [(err, "not moved: NIXL says 'ERR'"), (raises, "not moved: RuntimeError")],
    ids=["a state", "an error"],
)
def test_a_transfer_that_fails_is_not_waited_for_and_its_agent_not_used_again(
    tmp_path: Path, watched: list[Watched], says, message: str
):
    agent = FileAgent("fails", seconds=5.0)
    memory = np.full((MANY, 4), 7, dtype=np.uint8)
    watched[0]._says = says
    began = time.monotonic()
    with open(tmp_path / "mine", "wb+") as file:
        with pytest.raises(FileError, match=message):
            agent.move("WRITE", file.fileno(), path="mine", **scattered(memory))
        assert time.monotonic() < began + 4
        assert not agent.busy
        agent.move("WRITE", file.fileno(), path="mine", **scattered(memory))
    assert (tmp_path / "mine").read_bytes() == b"\x07" * (2 * MANY)
    assert len(watched) == 2
    assert watched[1].registered == 0
    assert opened(tmp_path) == []


def test_late_transfers_of_an_agent_that_failed_still_end(tmp_path: Path, watched: list[Watched]):
    agent = FileAgent("both", seconds=-1.0)
    memory = np.full((MANY, 4), 7, dtype=np.uint8)
    with open(tmp_path / "late", "wb+") as late:
        with pytest.raises(FileError, match="still moving"):
            agent.move("WRITE", late.fileno(), path="late", **scattered(memory))
        transfer = watched[0]._agent.transfer
        watched[0].__dict__["transfer"] = lambda handle: raises(transfer(handle))
        with pytest.raises(FileError, match="not moved: RuntimeError"):
            agent.move("WRITE", late.fileno(), path="late", **scattered(memory))
    until_free(agent)
    assert (tmp_path / "late").read_bytes() == b"\x07" * (2 * MANY)
    assert opened(tmp_path) == []


def test_a_failed_transfer_leaves_no_agent_though_its_error_is_kept(tmp_path: Path, monkeypatch):
    opened = []
    real = posix.open_file_agent

    def noted(name: str):
        agent = real(name)
        opened.append(weakref.ref(agent))
        return agent

    monkeypatch.setattr(posix, "open_file_agent", noted)
    agent = FileAgent("refused")
    memory = np.zeros((MANY, 4), dtype=np.uint8)
    (tmp_path / "read-only").write_bytes(b"")
    with open(tmp_path / "read-only", "rb") as file:
        with pytest.raises(FileError, match="not moved: ") as kept:
            agent.move("WRITE", file.fileno(), path="read-only", **scattered(memory))
        assert opened[0]() is None
    assert kept.tb is not None
    assert not agent.busy


def test_memory_of_a_late_load_is_free_when_the_store_is_not_busy(files: KvFiles):
    save(files, "late", 3)
    hasty = KvFiles(files.root, seconds=-1.0)
    assert not hasty.busy
    target = empty(OTHER)
    with pytest.raises(FileError, match="still moving"):
        hasty.load("late", OTHER, bases_of(target), blocks=((1, 2, 3),))
    until_free(hasty)
    assert all((t[1:3] == 3).all() for of in target.values() for t in of)


def test_a_late_save_leaves_the_entry_that_was_there(files: KvFiles):
    save(files, "slow", 1)
    hasty = KvFiles(files.root, seconds=-1.0)
    memory = filled(2)
    with pytest.raises(FileError, match="still moving"):
        hasty.save("slow", ENGINE, bases_of(memory), tokens=10, blocks=BLOCKS)
    until_free(hasty)
    assert all((t[1:3] == 1).all() for of in load(files, "slow").values() for t in of)
    assert list(files.root.glob(".*.tmp")) == []


@pytest.mark.slow
def test_a_nixl_without_the_plugin_is_named(nixl: str, tmp_path: Path):
    program = (
        "from ir.transfer.nixl.posix import FileAgent\n"
        "from ir.transfer.nixl import PluginMissingError\n"
        "try:\n    FileAgent('x')\n"
        "except PluginMissingError as error:\n    print(error)\n"
    )
    spec = find_spec(nixl.partition(".")[0])
    assert spec is not None
    assert spec.origin is not None
    site = Path(spec.origin).parents[1]
    plugin = next(site.glob("*.libs/nixl/libplugin_UCX.so"))
    (tmp_path / plugin.name).symlink_to(plugin)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NIXL_PLUGIN_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "nixl: plugin POSIX does not work: found UCX\n"
