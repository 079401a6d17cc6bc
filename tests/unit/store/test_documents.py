"""Documents: versions from the first write, preconditions, edits by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated_memory.errors import Conflict, NotFound, TooLarge
from federated_memory.names import DocumentPath, etag_of, parse_document_path
from federated_memory.store.document import OVERVIEW, Key
from federated_memory.store.documents import Documents
from federated_memory.store.journal import Journal
from federated_memory.store.root import Root
from federated_memory.store.scan import Scan
from tests.conftest import ACTOR, WORKSPACE


def key(path: str = "design/auth.md") -> Key:
    return Key(WORKSPACE, "knowledge", parse_document_path(path))


def file_of(root: Root, path: str = "design/auth.md") -> Path:
    return root.path / "workspaces" / WORKSPACE / "knowledge" / path


def numbers(documents: Documents, of: Key) -> list[tuple[int, str]]:
    return [(entry.version, entry.operation) for entry in documents.history(of)]


@pytest.mark.spec("DOC-1")
def test_a_write_is_a_plain_file_and_reads_back(documents: Documents, root: Root) -> None:
    written = documents.write(key(), b"# Auth\n", ACTOR)

    document, text = documents.read(key())
    assert (text, document.version, document.etag) == (b"# Auth\n", 1, etag_of(b"# Auth\n"))
    assert written.outcome == "created"
    assert file_of(root).read_bytes() == b"# Auth\n"


@pytest.mark.spec("VER-1")
def test_every_version_is_kept_from_the_first_write_on(documents: Documents) -> None:
    for text in (b"one", b"two", b"three"):
        documents.write(key(), text, ACTOR)

    assert numbers(documents, key()) == [(3, "write"), (2, "write"), (1, "write")]
    assert [documents.read_version(key(), n)[1] for n in (1, 2, 3)] == [b"one", b"two", b"three"]
    assert documents.history(key())[0].by == "tester"


@pytest.mark.spec("DOC-2")
def test_writing_the_current_text_makes_no_version(documents: Documents) -> None:
    documents.write(key(), b"same", ACTOR)

    assert documents.write(key(), b"same", ACTOR).outcome == "unchanged"
    assert numbers(documents, key()) == [(1, "write")]


@pytest.mark.spec("DOC-3")
def test_a_stale_if_match_stores_nothing_and_says_what_is_current(documents: Documents) -> None:
    documents.write(key(), b"one", ACTOR)
    documents.write(key(), b"two", ACTOR)

    with pytest.raises(Conflict) as refused:
        documents.write(key(), b"three", ACTOR, if_match=etag_of(b"one"))

    assert refused.value.facts == {"etag": etag_of(b"two"), "version": 2}
    assert documents.read(key())[1] == b"two"


@pytest.mark.spec("DOC-3")
def test_an_empty_if_match_only_creates(documents: Documents) -> None:
    documents.write(key(), b"one", ACTOR, if_match="")

    with pytest.raises(Conflict):
        documents.write(key(), b"two", ACTOR, if_match="")
    with pytest.raises(Conflict):
        documents.write(key("other.md"), b"x", ACTOR, if_match=etag_of(b"x"))


@pytest.mark.spec("DOC-4")
def test_an_edit_by_hand_becomes_a_version_before_it_is_replaced(documents: Documents, root: Root) -> None:
    documents.write(key(), b"one", ACTOR)
    file_of(root).write_bytes(b"by hand")

    documents.write(key(), b"three", ACTOR)

    assert numbers(documents, key()) == [(3, "write"), (2, "external"), (1, "write")]
    assert documents.read_version(key(), 2)[1] == b"by hand"


@pytest.mark.spec("DOC-4")
def test_reading_an_edit_by_hand_gives_it_a_version_and_an_etag(documents: Documents, root: Root) -> None:
    documents.write(key(), b"one", ACTOR)
    file_of(root).write_bytes(b"by hand")

    document, text = documents.read(key())

    assert (document.version, document.etag, text) == (2, etag_of(b"by hand"), b"by hand")


@pytest.mark.spec("DOC-5")
def test_a_deleted_document_keeps_its_versions_and_counts_on(documents: Documents, root: Root) -> None:
    documents.write(key(), b"one", ACTOR)
    documents.delete(key(), ACTOR)

    assert not file_of(root).exists()
    with pytest.raises(NotFound):
        documents.read(key())
    assert documents.read_version(key(), 1)[1] == b"one"
    assert documents.write(key(), b"two", ACTOR).document.version == 2


@pytest.mark.spec("DOC-6")
@pytest.mark.parametrize("other", ["design/AUTH.md", "Design/other.md"])
def test_paths_that_differ_only_in_case_are_refused(documents: Documents, other: str) -> None:
    documents.write(key("design/auth.md"), b"x", ACTOR)

    with pytest.raises(Conflict):
        documents.write(key(other), b"y", ACTOR)


@pytest.mark.spec("DOC-6")
def test_the_same_file_name_in_different_folders_is_welcome(documents: Documents) -> None:
    for path in ("a/q/Z.md", "a/r/z.md", "a/z.md"):
        documents.write(key(path), b"x", ACTOR)


@pytest.mark.spec("DOC-7")
def test_the_scan_finds_what_was_made_edited_and_removed_by_hand(documents: Documents, root: Root) -> None:
    for path in ("edited.md", "removed.md"):
        documents.write(key(path), b"old", ACTOR)
    file_of(root, "made.md").write_bytes(b"new")
    file_of(root, "edited.md").write_bytes(b"edited")
    file_of(root, "removed.md").unlink()
    before = root.feed.head()

    assert Scan(root, documents).workspace(WORKSPACE) == 3

    assert [d.key.path for d in documents.list(WORKSPACE)] == ["edited.md", "made.md"]
    changes = {(change.key, change.operation) for change in root.feed.after(before)}
    assert changes == {("made.md", "external"), ("edited.md", "external"), ("removed.md", "delete")}
    assert Scan(root, documents).workspace(WORKSPACE) == 0


@pytest.mark.spec("DOC-7", "SEC-1")
def test_what_has_an_illegal_name_or_is_no_file_is_left_alone(documents: Documents, root: Root) -> None:
    folder = root.path / "workspaces" / WORKSPACE / "knowledge"
    (folder / " bad.md").write_text("x")
    (folder / "note.txt").write_text("x")
    (folder / "link.md").symlink_to("/etc/passwd")
    (folder / "linked").symlink_to("/etc")

    assert Scan(root, documents).workspace(WORKSPACE) == 0
    with pytest.raises(NotFound):
        documents.read(key("link.md"))
    assert (folder / " bad.md").exists()


@pytest.mark.spec("SEC-1")
def test_a_symlink_in_the_way_of_a_write_is_not_followed(documents: Documents, root: Root, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root.path / "workspaces" / WORKSPACE / "knowledge" / "linked").symlink_to(outside)

    with pytest.raises(Conflict):
        documents.write(key("linked/x.md"), b"x", ACTOR)

    assert not list(outside.iterdir())


def test_a_text_over_the_limit_is_refused_before_anything_is_written(documents: Documents, root: Root) -> None:
    with pytest.raises(TooLarge):
        documents.write(key(), b"x" * (64 * 1024 + 1), ACTOR)

    assert not file_of(root).exists()


@pytest.mark.spec("DOC-8")
def test_the_overview_is_a_document_of_its_own(documents: Documents, root: Root) -> None:
    overview = Key(WORKSPACE, "overview", OVERVIEW)
    documents.write(overview, b"# Demo\n\nStands well.\n", ACTOR)
    documents.write(key("overview.md"), b"another", ACTOR)

    assert documents.read(overview)[0].title == "Demo — Stands well."
    assert (root.path / "workspaces" / WORKSPACE / "overview.md").read_bytes() == b"# Demo\n\nStands well.\n"
    assert numbers(documents, overview) == [(1, "write")]


@pytest.mark.spec("STORE-4")
def test_flushing_empties_the_journal_and_changes_nothing_else(documents: Documents, journal: Journal) -> None:
    for text in (b"one", b"two"):
        documents.write(key(), text, ACTOR)
    documents.delete(key(), ACTOR)
    documents.write(key("other.md"), b"x", ACTOR)

    assert journal.flush() == 4
    assert journal.flush() == 0
    assert numbers(documents, key()) == [(2, "write"), (1, "write")]
    assert documents.read_version(key(), 2)[1] == b"two"


@pytest.mark.spec("VER-2")
def test_a_damaged_copy_is_never_served_as_the_version(documents: Documents, journal: Journal, root: Root) -> None:
    documents.write(key(), b"one", ACTOR)
    documents.write(key(), b"two", ACTOR)
    copy = root.path / "workspaces" / WORKSPACE / "knowledge" / ".versions" / "design" / "auth.md" / "000001.md"
    assert documents.read_version(key(), 1)[1] == b"one"  # the journal has it

    journal.flush()
    copy.write_bytes(b"0ne")

    with pytest.raises(Exception, match="damaged"):
        documents.read_version(key(), 1)


def test_titles_come_from_the_heading_or_the_front_matter(documents: Documents) -> None:
    cases = {
        "a.md": (b"text\n# The heading\n", "The heading"),
        "b.md": (b"---\ntitle: 'From front matter'\n---\n# Other\n", "From front matter"),
        "c.md": (b"---\ntags: [x]\n---\n# After it\n", "After it"),
        "d.md": (b"no heading", "d"),
    }
    for path, (text, title) in cases.items():
        assert documents.write(Key(WORKSPACE, "knowledge", DocumentPath(path)), text, ACTOR).document.title == title
