"""Knowledge as agents write it: front matter, headings, lists, pieces of code, now and then another script."""

import json
import random
import re
from collections.abc import Iterator

from scripts.corpus.pool import Pool, machine_pool
from scripts.corpus.voice import Voice, choose_project

KINDS = ("howto", "decision", "runbook", "bug", "design")


def documents(seed: int, count: int, pool: Pool | None = None) -> Iterator[tuple[str, str]]:
    """The first `count` documents of the corpus `seed`: path in the workspace and Markdown, 4.5 kB on average."""
    for index in range(count):
        yield document(pool or machine_pool(), seed, index)


def document(pool: Pool, seed: int, index: int) -> tuple[str, str]:
    rng = random.Random(f"{seed}/document/{index}")
    project = choose_project(rng, pool)
    voice = Voice(rng, pool, project)
    folder = slug(project.name.rpartition("/")[2]) or "notes"
    title = " ".join(voice.sentence().split()[: rng.randint(3, 7)]).strip(".,:;*-#$ ")[:80]
    lines = front_matter(rng, title, folder)
    size = rng.lognormvariate(8.0, 0.8)
    while size > 0:
        added = block(rng, voice)
        lines += [*added, ""]
        size -= sum(map(len, added))
    return f"{folder}/{slug(title)[:40].strip('-') or 'note'}-{index:05d}.md", "\n".join(lines)


def front_matter(rng: random.Random, title: str, folder: str) -> list[str]:
    quoted = json.dumps(title, ensure_ascii=False)
    updated = f"2025-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    tags = f"[{folder}, {rng.choice(KINDS)}]"
    return ["---", f"title: {quoted}", f"tags: {tags}", f"updated: {updated}", "---", "", f"# {title}", ""]


def block(rng: random.Random, voice: Voice) -> list[str]:
    """A heading, a piece of code, a list or a paragraph."""
    (kind,) = rng.choices(("heading", "code", "list", "paragraph"), (15, 15, 20, 50))
    match kind:
        case "heading":
            return ["## " + " ".join(voice.sentence().split()[:4])]
        case "code":
            return ["```", *voice.code(rng.randint(3, 20))[2].split("\n"), "```"]
        case "list":
            return [f"- {voice.sentence()[: rng.randint(40, 160)]}" for _ in range(rng.randint(2, 6))]
        case _:
            return [voice.sentence()]


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
