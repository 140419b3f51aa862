"""The tree of blocks above the last final one: headers first, then bodies, then verdicts.

A block is *linked* when its body and those of all its ancestors are here; only then the application
is asked about it. Work accumulates along branches, and the heaviest branch wins; of equally heavy
ones the one that was here first (Nakamoto 2008, section 5).
"""

from collections.abc import Iterator

from quorate.base.native import mypyc_attr
from quorate.base.types import Hash, Height, Milliseconds
from quorate.consensus.pow_difficulty import compute_next_target, compute_target
from quorate.consensus.pow_headers import Certificate, Header, encode_certificate
from quorate.consensus.pow_types import MAX_LOCATOR, Place, Settings

MAX_BLOCKS = 1 << 18
"""In the tree, most of them headers while a long chain is caught up with."""
UNKNOWN, VALID, INVALID = "unknown", "valid", "invalid"
"""What the application has said of a block."""


class Node:
    """A block of the tree; the root is the last final one, without its payload."""

    __slots__ = (
        "children",
        "from_whom",
        "hash",
        "header",
        "height",
        "is_kept",
        "is_linked",
        "next_target",
        "number",
        "parent",
        "parent_ms",
        "payload",
        "timestamp_ms",
        "verdict",
        "work",
    )

    def __init__(
        self,
        header: Header | None,
        hash: Hash,
        height: Height,
        timestamp_ms: Milliseconds,
        parent: "Node | None",
        parent_ms: Milliseconds,
        work: int,
        next_target: int,
    ) -> None:
        self.header, self.hash, self.height = header, hash, height
        self.timestamp_ms, self.parent_ms = timestamp_ms, parent_ms
        self.parent, self.work, self.next_target = parent, work, next_target
        self.payload: bytes | None = None
        self.children: list[Node] = []
        self.is_linked = False
        self.is_kept = False
        """Whether the journal has it."""
        self.verdict = UNKNOWN
        self.from_whom = b""
        """Who sent its body; empty: nobody else."""
        self.number = 0
        """In the order in which blocks became linked."""

    def __repr__(self) -> str:
        return f"Node({self.height} 0x{self.hash.hex()[:8]} {self.verdict})"

    def make_certificate(self) -> bytes:
        """Return what is told of the block once it is final."""
        assert self.header is not None
        return encode_certificate(self.header.raw, self.work, self.parent_ms)


@mypyc_attr(allow_interpreted_subclasses=True)
class Tree:
    """All blocks above the last final one that are not known to be wrong, and some that are."""

    __slots__ = (
        "best",
        "best_path",
        "blocks",
        "easiest",
        "goal",
        "head",
        "interval_ms",
        "path",
        "root",
        "settings",
        "step",
        "window",
    )

    def __init__(self, settings: Settings, root: Node) -> None:
        self.settings = settings
        self.interval_ms, self.window = settings.interval_ms, settings.window
        self.easiest = settings.easiest
        root.is_linked, root.verdict = True, VALID
        self.root = root
        self.blocks: dict[Hash, Node] = {root.hash: root}
        self.best = root
        """The heaviest header that is not known to be wrong."""
        self.best_path: list[Node] = []
        """From the child of the root to `best`."""
        self.goal = root
        """The heaviest linked block that is not known to be wrong."""
        self.head = root
        """The heaviest valid one: the tip."""
        self.path: list[Node] = []
        """From the child of the root to `head`."""
        self.step = 0

    # ---- growing

    def compute_next(self, parent: Node, target: int, timestamp_ms: Milliseconds) -> int:
        """Return the target of the children of a child of `parent`."""
        if not parent.height:
            # The genesis block was made by people at some time, not by work.
            return target
        return compute_next_target(
            target,
            timestamp_ms - parent.timestamp_ms,
            interval_ms=self.interval_ms,
            window=self.window,
            easiest=self.easiest,
        )

    def judge(self, header: Header, parent: Node) -> str:
        """Return what is wrong with a header over `parent`, all but its seal; empty: nothing."""
        if parent.verdict == INVALID:
            return "a block over an invalid one"
        if header.height != parent.height + 1:
            return "a header of another height"
        if header.timestamp_ms <= parent.timestamp_ms:
            # Stronger than the median of eleven (Bitcoin): time never goes back along a chain.
            return "a header that is not later than its parent"
        if header.target != parent.next_target:
            return "a header of another target"
        return ""

    def add(self, header: Header, parent: Node) -> Node:
        """Add a header that was judged; the tree may not be full."""
        node = Node(
            header,
            header.hash,
            header.height,
            header.timestamp_ms,
            parent,
            parent.timestamp_ms if parent.height else 0,
            parent.work + header.work,
            self.compute_next(parent, header.target, header.timestamp_ms),
        )
        parent.children.append(node)
        self.blocks[node.hash] = node
        if node.work > self.best.work:
            self.set_best(node)
        return node

    def is_full(self) -> bool:
        return len(self.blocks) >= MAX_BLOCKS

    def link(self, node: Node) -> None:
        """A body has come: link the block, and those that waited for it."""
        assert node.parent is not None
        if not node.parent.is_linked or node.verdict == INVALID:
            return
        waiting = [node]
        while waiting:
            node = waiting.pop(0)
            node.is_linked = True
            self.step += 1
            node.number = self.step
            if node.work > self.goal.work:
                self.goal = node
            waiting += [child for child in node.children if child.payload is not None]

    # ---- choosing

    def set_best(self, node: Node) -> None:
        self.best = node
        follow(self.best_path, self.root, node)

    def set_head(self, node: Node) -> int:
        """The tip moves; return how many blocks of the branch before are abandoned."""
        before = self.head
        self.head = node
        kept = follow(self.path, self.root, node)
        return before.height - self.root.height - kept

    def condemn(self, node: Node) -> None:
        """A block is invalid, and so is everything over it."""
        for each in iterate(node):
            each.verdict, each.payload, each.is_linked = INVALID, None, False
        self.choose_again()

    def forget(self, node: Node) -> None:
        """Go on as if a block that has no verdict, and all over it, had never come."""
        assert node.parent is not None
        node.parent.children.remove(node)
        gone = list(iterate(node))
        for each in gone:
            del self.blocks[each.hash]
        self.choose_again()

    def choose_again(self) -> None:
        """Find the heaviest blocks anew, after some went."""
        goal = best = self.head
        for node in self.blocks.values():
            if node.verdict == INVALID:
                continue
            if node.work > best.work:
                best = node
            if node.is_linked and (
                node.work > goal.work
                or (node.work == goal.work and goal is not self.head and node.number < goal.number)
            ):
                goal = node
        self.goal = goal
        self.set_best(best)

    def find_unjudged(self, goal: Node | None) -> Node | None:
        """The lowest block without a verdict on the way to `goal` (None: the heaviest one), if that
        is heavier than the tip; the path has at most as many blocks as lie over the last final one.
        """
        if goal is None:
            goal = self.goal
        if goal.work <= self.head.work or goal.verdict == INVALID:
            return None
        node, found = goal, None
        while node.verdict == UNKNOWN:
            found = node
            assert node.parent is not None
            node = node.parent
        return found

    # ---- finality

    def finalize(self) -> Node:
        """The root moves one block towards the tip; everything that is not over it goes."""
        old, root = self.root, self.path[0]
        gone = [node for child in old.children if child is not root for node in iterate(child)]
        for node in gone:
            node.parent = None
            node.children = []
            del self.blocks[node.hash]
        del self.blocks[old.hash]
        self.root = root
        root.parent, root.payload, old.children = None, None, []
        del self.path[0]
        if self.best_path and self.best_path[0] is root:
            del self.best_path[0]
            if self.goal.hash in self.blocks:
                return root
        else:
            self.best_path = []
        self.choose_again()
        return root

    # ---- telling others

    def get_locator(self, below: Height | None = None) -> list[Place]:
        """Return places of the heaviest branch, newest first with growing gaps, the root last;
        only those below a height, if one is given.
        """
        root, path = self.root, self.best_path
        places: list[Place] = []
        index, gap = len(path) - 1, 1
        if below is not None:
            index = min(index, below - root.height - 2)
        while index >= 0 and len(places) < MAX_LOCATOR - 1:
            node = path[index]
            places.append((node.height, node.hash))
            if len(places) >= 8:
                gap *= 2
            index -= gap
        places.append((root.height, root.hash))
        return places

    def find_fork(self, locator: list[Place]) -> Node | None:
        """Return the newest block of the chain up to the tip that the owner of a locator has."""
        for _, hash in locator:
            node = self.blocks.get(hash)
            while node is not None and not self.is_on_path(node):
                node = node.parent
            if node is not None:
                return node
        return None

    def is_on_path(self, node: Node) -> bool:
        """Whether a block is on the chain up to the tip."""
        index = node.height - self.root.height - 1
        return node is self.root or (index < len(self.path) and self.path[index] is node)

    def iterate_linked(self) -> Iterator[Node]:
        """All blocks whose bodies are worth keeping, parents first."""
        for node in iterate(self.root):
            if node is not self.root and node.is_linked and node.verdict == VALID:
                yield node


def make_genesis_node(genesis: Hash, settings: Settings) -> Node:
    """Return the root of a chain that has no block yet."""
    target = compute_target(settings.initial_difficulty)
    return Node(None, genesis, 0, 0, None, 0, 0, target)


def make_final_node(certificate: Certificate, settings: Settings) -> Node:
    """Return the root of a chain whose last final block is this one."""
    header = certificate.header
    target = header.target
    if header.height > 1:
        target = compute_next_target(
            header.target,
            header.timestamp_ms - certificate.parent_ms,
            interval_ms=settings.interval_ms,
            window=settings.window,
            easiest=settings.easiest,
        )
    node = Node(
        header,
        header.hash,
        header.height,
        header.timestamp_ms,
        None,
        certificate.parent_ms,
        certificate.work,
        target,
    )
    return node


def iterate(node: Node) -> Iterator[Node]:
    """A block and all over it, parents first."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def follow(path: list[Node], root: Node, tip: Node) -> int:
    """Let a path lead from the child of `root` to `tip`; return how much of the old one stays."""
    branch = []
    node = tip
    while node is not root and not (
        node.height - root.height <= len(path) and path[node.height - root.height - 1] is node
    ):
        branch.append(node)
        assert node.parent is not None
        node = node.parent
    kept = node.height - root.height
    del path[kept:]
    branch.reverse()
    path += branch
    return kept
