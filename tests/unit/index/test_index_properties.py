"""Whatever happens to a root, the index that caught up equals one made anew (SPEC: INDEX-1)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from federated_memory.errors import NotFound
from federated_memory.index import Follower, writer
from tests.unit.index.rig import HOME, Rig, turn

pytestmark = pytest.mark.thorough

Step = Callable[["Life"], None]


class Killed(BaseException):
    pass


class Dying:
    """Asked whether to stop, at every line and step; the end of the process at the n-th time."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def is_set(self) -> bool:
        self.steps -= 1
        if self.steps < 0:
            raise Killed
        return False


class Life:
    """A root, written to by every way there is, and its follower, which is killed at any point."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder / "root")

    def write(self, path: str, text: str) -> None:
        self.rig.write(path, text)

    def write_overview(self, text: str) -> None:
        self.rig.write_overview(text)

    def delete(self, path: str) -> None:
        try:
            self.rig.delete(path)
        except NotFound:
            self.rig.write(path, "to be deleted later")

    def edit_by_hand(self, path: str, text: str | None) -> None:
        self.rig.edit_by_hand(path, text)
        self.rig.scan.workspace(HOME)

    def upload(self, session_id: str, raw: bytes) -> None:
        """A new session, a longer state of one, a shorter one, or one that diverges."""
        self.rig.upload(session_id, raw)

    def append(self, session_id: str, raw: bytes, cut: int) -> None:
        """What follows, perhaps with an unterminated last line."""
        try:
            self.rig.append(session_id, raw[: max(1, len(raw) - cut)])
        except NotFound:
            self.rig.upload(session_id, raw)

    def catch_up(self) -> None:
        self.rig.catch_up()
        assert self.rig.contents() == self.rig.rebuilt()

    def die_while_catching_up(self, steps: int, is_small: bool) -> None:
        """In the middle of a transaction, or (`is_small`) of many of them."""
        with pytest.MonkeyPatch.context() as patched:
            if is_small:
                patched.setattr("federated_memory.index.catchup._TRANSACTION_BYTES", 1)
                patched.setattr("federated_memory.index.writer._SEGMENT_ROWS", 2)
            patched.setattr(self.rig.follower, "_stopping", Dying(steps))
            try:
                self.rig.catch_up()
            except Killed:
                patched.undo()
                self.rig.reopen()

    def put_in_order(self) -> None:
        self.rig.follower.put_in_order()

    def make_anew(self) -> None:
        self.rig.follower.rebuild()

    def lose_the_index(self, garbage: bytes) -> None:
        self.rig.close()
        self.rig.index_path.unlink(missing_ok=True)
        if garbage:
            self.rig.index_path.write_bytes(garbage)
        self.rig.open()


def step(method: Callable[..., None], *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Step]:
    return st.tuples(*arguments).map(lambda given: lambda life: method(life, *given))


PATHS = st.sampled_from(["a.md", "deep/b.md", "Über uns.md"])
IDS = st.sampled_from(["s", "t"])
WORDS = st.sampled_from(["zeppelin", "parseTree", "日本語", "Nora: hi", "x" * 3_000, "a.b-c/d_e", "ﬃ İ K"])
TEXTS = st.lists(WORDS, min_size=1, max_size=4).map("\n\n# ".join)
LINES = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "tool"]), WORDS).map(lambda said: turn(*said)),
    min_size=1,
    max_size=5,
).map(b"".join)
STEPS = st.lists(
    st.one_of(
        step(Life.write, PATHS, TEXTS),
        step(Life.write_overview, TEXTS),
        step(Life.delete, PATHS),
        step(Life.edit_by_hand, PATHS, st.none() | TEXTS),
        step(Life.upload, IDS, LINES),
        step(Life.append, IDS, LINES, st.integers(0, 90)),
        step(Life.append, IDS, LINES, st.just(0)),
        step(Life.catch_up),
        step(Life.catch_up),
        step(Life.put_in_order),
        step(Life.die_while_catching_up, st.integers(0, 12), st.booleans()),
        step(Life.make_anew),
        step(Life.lose_the_index, st.binary(max_size=50)),
    ),
    min_size=6,
    max_size=24,
)  # fmt: skip
CHECKED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def live(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder))
        try:
            for each in steps:
                each(life)
            life.catch_up()
        finally:
            life.rig.close()


@pytest.mark.spec("INDEX-1", "INDEX-2")
def test_whatever_happens_the_index_that_caught_up_equals_one_made_anew() -> None:
    CHECKED(given(STEPS)(live))()


def nothing(*_: object, **__: object) -> None:
    """A part that is missing."""


def cursor_first(follow: Callable[[Follower], bool], follower: Follower) -> bool:
    """The cursor moves before what it stands for is indexed."""
    head = follower._root.feed.after(follower._state.cursor, 500)
    if head:
        with follower._file.writing() as connection:
            writer.Writing(connection).set(cursor=head[-1].number, cursor_at=head[-1].at)
    return follow(follower)


TWINS: dict[str, tuple[type, str, object]] = {
    "deletions are not indexed": (writer.Writing, "forget", nothing),
    "old rows go on to count": (writer.Writing, "clear", nothing),
    "the cursor moves first": (Follower, "_follow", lambda follower: cursor_first(FOLLOW, follower)),
}
FOLLOW = Follower._follow


@pytest.mark.parametrize("name", TWINS)
def test_the_property_finds_a_broken_twin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, part, broken = TWINS[name]
    monkeypatch.setattr(owner, part, broken)
    quick = settings(CHECKED, phases=[Phase.generate], max_examples=200, report_multiple_bugs=False)

    def twin(steps: list[Step]) -> None:
        live(steps)

    with pytest.raises(AssertionError):
        quick(given(STEPS)(twin))()
