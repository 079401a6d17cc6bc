"""What search quality is measured on: texts, questions, and which texts answer each question."""

from dataclasses import dataclass
from typing import Literal

Split = Literal["dev", "test"]


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    kind: str
    relevant: frozenset[str]  # names of texts

    def __post_init__(self) -> None:
        if not self.relevant:
            raise ValueError(f"nothing answers {self.text!r}")


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A transcript under its session id, or a document under its path."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """`texts` are transcripts (JSONL) or documents (Markdown). Names are unique over all sets of a kind."""

    name: str
    form: Literal["sessions", "documents"]
    texts: tuple[LabelledText, ...]
    questions: tuple[Question, ...]
