"""Questions about the documentation that installed packages bring along: READMEs in their metadata, guides beside code.

A document is a file, or a chapter of a long one. A question is a heading or a sentence of it as somebody remembers it:
words left out, others in another form. The document it was taken from answers it. The words differ from machine to
machine with what is installed; the same installation gives the same questions.
"""

import hashlib
import random
import re
import sysconfig
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

from scripts.corpus.labelled import LabelledSet, LabelledText, Question, Split

SHARES = {"heading": 0.3, "sentence": 0.7}
SUFFIXES = (".md", ".rst")
SIZES = range(400, 60_000)
CHAPTER_BYTES = 4_000
SKIPPED = re.compile(r"licen[cs]e|notice|authors|copying|maintainers|code_of_conduct", re.I)
HEADING = re.compile(r"^#{1,4} +(.+?)#* *$", re.M)
CODE = re.compile(r"```.*?(?:```|\Z)|<[^>]+>|!?\[([^\]]*)\]\([^)]*\)|^\s{4,}.*$|https?://\S+", re.S | re.M)
SENTENCE = re.compile(r"(?<=[.!?]) +|\n\s*\n|\n[-*] ")
DROPPED = frozenset((
    "a", "an", "the", "is", "are", "was", "be", "of", "to", "in", "on", "for", "and", "or", "with", "that", "this",
    "it", "its", "as", "by", "from", "at", "can", "will",
))  # fmt: skip
OTHER_WORDS = {"file": "document", "use": "usage", "error": "failure", "fast": "quick", "install": "set up",
               "option": "setting", "create": "make", "remove": "delete", "return": "give back", "default": "standard",
               "support": "compatibility", "directory": "folder", "parse": "read", "required": "needed"}  # fmt: skip


def package_questions(split: Split, questions: int = 200, site: Path | None = None) -> LabelledSet:
    """The packages' documents, and questions about the half of their sentences that belongs to the split."""
    texts = list(documents(site or Path(sysconfig.get_paths()["purelib"])))
    rng = random.Random(f"documents/{split}")
    candidates = [(text.name, kind, said) for text in texts for kind, said in remembered(text) if belongs(said, split)]
    counts: dict[str, int] = {}
    for _, _, said in candidates:
        counts[said] = counts.get(said, 0) + 1
    unique = [candidate for candidate in candidates if counts[candidate[2]] == 1]
    chosen = []
    for kind, share in SHARES.items():
        alike = [candidate for candidate in unique if candidate[1] == kind]
        chosen += rng.sample(alike, min(round(share * questions), len(alike)))
    known = {word.lower() for text in texts for word in words(text.data.decode("utf-8", "replace"))}
    asked = (Question(reworded(rng, said, known), kind, frozenset({name})) for name, kind, said in chosen)
    return LabelledSet(f"{split}-packages", "documents", tuple(texts), tuple(asked))


def documents(site: Path) -> Iterator[LabelledText]:
    """Each text once."""
    seen: set[bytes] = set()
    for name, text in sources(site):
        for path, part in chapters(name, text):
            data = part.encode("utf-8", "replace")
            digest = hashlib.sha256(data).digest()
            if digest not in seen:
                seen.add(digest)
                yield LabelledText(path, data)


def sources(site: Path) -> Iterator[tuple[str, str]]:
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        message = HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
        body = str(message.get_payload())
        if len(body) in SIZES or len(body) > SIZES.stop:
            yield slug(str(message["Name"])), body
    for path in sorted(site.rglob("*")):
        inside = path.relative_to(site).as_posix()
        if path.suffix in SUFFIXES and not SKIPPED.search(inside) and not path.is_symlink():
            text = path.read_text(encoding="utf-8", errors="replace")
            if len(text) in SIZES and "federated_memory" not in inside:
                yield "/".join(map(slug, inside.rpartition(".")[0].split("/"))), text


def chapters(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The text as one document, or a long one cut before its second-level headings."""
    if len(text) <= CHAPTER_BYTES:
        yield f"{name}.md", text
        return
    parts = re.split(r"^(?=## )", text, flags=re.M)
    for number, part in enumerate(parts):
        if len(part) in SIZES:
            heading = HEADING.search(part)
            title = slug(heading[1])[:40].strip("-") if heading else "part"
            yield f"{name}/{number:02d}-{title or 'part'}.md", part


def remembered(text: LabelledText) -> Iterator[tuple[str, str]]:
    """Headings and sentences that say enough to be asked about."""
    plain = CODE.sub(lambda match: match[1] or " ", text.data.decode("utf-8", "replace"))
    for heading in HEADING.findall(plain):
        if 3 <= len(words(heading)) <= 12:
            yield "heading", heading
    for sentence in SENTENCE.split(HEADING.sub("", plain)):
        said = " ".join(sentence.split())
        if 7 <= len(words(said)) <= 24 and re.search(r"[.!?]$", said) and "|" not in said:
            yield "sentence", said


def words(text: str) -> list[str]:
    return [word for word in re.findall(r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]", text) if word.lower() not in DROPPED]


def belongs(said: str, split: Split) -> bool:
    return (hashlib.sha256(said.encode()).digest()[0] % 2 == 0) == (split == "dev")


def reworded(rng: random.Random, said: str, known: set[str]) -> str:
    """About half of the words, in order, some in another form or by another name."""
    kept = words(said)
    count = max(min(len(kept), 3), round(len(kept) * rng.uniform(0.4, 0.7)))
    places = sorted(rng.sample(range(len(kept)), count))
    return " ".join(inflected(rng, kept[place], known) for place in places)


def inflected(rng: random.Random, word: str, known: set[str]) -> str:
    """Another name, or another form that the documents know, so that it is a word and not just letters."""
    if word in OTHER_WORDS and rng.random() < 0.5:
        return OTHER_WORDS[word]
    if len(word) < 4 or not word.isalpha() or not word.islower():
        return word
    stem = re.sub(r"(?:ing|ed|es|s)$", "", word)
    forms = {stem, f"{stem}e", f"{stem}s", f"{stem}es", f"{stem}ed", f"{stem}ing"} & known - {word}
    return rng.choice(sorted(forms)) if forms and rng.random() < 0.5 else word


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
