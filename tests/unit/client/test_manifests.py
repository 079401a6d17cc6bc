"""Manifests: what is checked, and what a wrong one says."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

VECTORS = Path(__file__).parents[2] / "vectors"
GOOD: dict[str, Any] = {
    "workspace_id": "box-claude-code-shop",
    "machine": "box",
    "tool": "claude-code",
    "project": "shop",
    "tracked": [{"local": "~/shop/CLAUDE.md", "upload": "agent/CLAUDE.md"}],
    "tracked_dirs": [{"local": "~/shop/docs", "upload_prefix": "docs", "glob": "**/*.md"}],
    "cwd": ["~/shop"],
    "mode": "add",
}


def write(home: Path, body: Any, name: str = "box-claude-code-shop") -> Path:
    folder = home / ".memory-sync" / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
    return path


@pytest.mark.spec("SYNC-7")
def test_a_manifest_that_is_saved_is_loaded_as_it_was(sync: ModuleType, home: Path) -> None:
    write(home, GOOD)
    (found,) = sync.load_manifests()
    path = sync.save_manifest(found)

    assert sync.load_manifests() == [found]
    assert path.stat().st_mode & 0o777 == 0o600
    assert found.tracked_dirs == [sync.TrackedDir("~/shop/docs", "docs/", "**/*.md")]
    assert sync._manifest_places(found)[1].root == home / "shop" / "docs"


@pytest.mark.spec("SYNC-7")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"workspace_id": "Box"}, "workspace_id"),
        ({"workspace_id": "box-other"}, "differs from the file's name"),
        ({"machine": ""}, "machine"),
        ({"tool": 7}, "tool"),
        ({"mode": "sync"}, "mode: neither add nor mirror"),
        ({"trackd": []}, "trackd: unknown field"),
        ({"tracked": {}}, "tracked: no list"),
        ({"tracked": ["x"]}, r"tracked\[0\]: no object"),
        ({"tracked": [{"local": "~/a.md"}]}, r"tracked\[0\].upload: missing"),
        ({"tracked": [{"local": "a.md", "upload": "a.md"}]}, r"tracked\[0\].local: 'a.md' is not absolute"),
        ({"tracked": [{"local": "/a", "upload": "../a.md"}]}, r"tracked\[0\].upload: '../a.md'"),
        ({"tracked": [{"local": "/a", "upload": "a.txt"}]}, "only .md files are knowledge"),
        ({"tracked": [{"local": "/a", "upload": "a.md"}, {"local": "/b", "upload": "A.md"}]}, "same upload path"),
        ({"tracked_dirs": [{"local": "/a", "upload_prefix": "..", "glob": "*.md"}]}, r"upload_prefix: '..'"),
        ({"tracked_dirs": [{"local": "/a", "upload_prefix": "a", "glob": "*.txt"}]}, "only .md files are knowledge"),
        ({"tracked_dirs": [{"local": "/a", "upload_prefix": "a", "glob": "../*.md"}]}, "leaves the folder"),
        ({"tracked_dirs": [{"local": "/a", "upload_prefix": "a", "glob": "*.md", "deep": "1"}]}, "unknown field"),
        ({"cwd": [1]}, "cwd"),
    ],
)
def test_a_wrong_manifest_names_the_file_and_the_field(
    sync: ModuleType, home: Path, change: dict[str, Any], told: str
) -> None:
    path = write(home, GOOD | change)

    with pytest.raises(sync.UsageError, match=told) as caught:
        sync.load_manifests()

    assert str(path) in str(caught.value)


@pytest.mark.spec("SYNC-7")
def test_a_wrong_manifest_does_not_stop_the_others(sync: ModuleType, home: Path) -> None:
    write(home, "{", "a-wrong-one")
    write(home, GOOD)
    problems: list[Any] = []

    found = sync.load_manifests(problems)

    assert [manifest.workspace_id for manifest in found] == ["box-claude-code-shop"]
    assert "not valid JSON" in str(problems[0])


@pytest.mark.spec("SYNC-7")
def test_document_paths_are_refused_by_the_servers_rules(sync: ModuleType) -> None:
    vectors = json.loads((VECTORS / "hostile_paths.json").read_text(encoding="utf-8"))
    from federated_memory.names import document_path_problem

    texts = [text for text in _strings(vectors) if isinstance(text, str)]
    texts += [
        "auto/MEMORY.md",
        "Über uns.md",
        "a.md/b.md",
        "a/.md",
        "é.md",
        "con.md",
        "x" * 121 + ".md",
        "a",
        "\ud800.md",
    ]

    assert len(texts) > 20
    assert [text for text in texts if bool(sync.document_problem(text)) != bool(document_path_problem(text))] == []


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in items for text in _strings(item)]
