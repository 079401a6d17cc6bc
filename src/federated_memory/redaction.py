"""Finding secrets in what others sent: counted and flagged, never altered (SPEC: REDACT-*).

The rules are the client's own (`client/redaction_rules.json`, package data here). The client replaces what they find
before anything leaves a machine; this side runs them in RE2, because it reads what strangers wrote.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import re2

NAME = "redaction_rules.json"
_MOST_NESTED = 8
_SHORTEST = 8
_MARK = re.compile(r"\[REDACTED:[a-z-]{1,32}\]")
_MOST_NAMED = 4096
_LONGEST_KEY = 200
_NAME, _SHORT = 32, 400
_HIDDEN = re.compile(r"\\+u00([2-7][0-9A-Fa-f])")
_ESCAPE_END = re.compile(rb"(?:\\[nrtbf]|\\u00[0-9a-fA-F]{2}|%[0-9A-Fa-f]{2}|\[[0-9;]{0,7}m)\Z")
_DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)
_scanstring: Callable[[str, int, bool], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]

Span = tuple[int, int, int]
"""Start, end and number of the rule."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What looks like a secret: its kind and the line it begins in, from 1. Never its text."""

    kind: str
    line: int


class Rule:
    """One kind of secret. A match begins with one of its keywords; the checks are what a pattern cannot say."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.kind: str = told["kind"]
        self.ignore_case: bool = told.get("ignore_case", False)
        self.keywords: list[str] = told["keywords"]
        self.gate: str = told.get("gate", "")
        self.pattern = _compile(told["pattern"], self.ignore_case)
        self.group: int = told.get("group", 0)
        self.end: bytes = told.get("end", "").encode()
        self.within: int = told.get("within", 0)
        self.check: str = told.get("check", "")
        self.min_entropy: float = told.get("min_entropy", 0.0)
        self.min_changes: int = told.get("min_changes", 0)
        self.apart: bool = told.get("apart", False)
        self.digits_before: int = told.get("digits_before", 0)
        self.refused = _compile(told["not"], self.ignore_case) if "not" in told else None
        self.key = _compile(told["key"], self.ignore_case) if "key" in told else None
        self.value = _compile(told["value"], self.ignore_case) if "value" in told else None


@dataclass(frozen=True, slots=True)
class Rules:
    version: str
    rules: tuple[Rule, ...]
    placeholders: Mapping[str, tuple[str, ...]]
    """Parts that no real secret has, by the name of the check."""
    fillers: tuple[str, ...]
    """Words of which nothing secret is made; longer ones first."""

    def accepts(self, rule: Rule, value: str) -> bool:
        """Whether a value that the pattern found is a secret rather than a placeholder or a piece of code."""
        if rule.min_entropy and _entropy(value) < rule.min_entropy:
            return False
        if rule.min_changes and (_changes(value) < rule.min_changes or not any(map(str.isalpha, value))):
            return False
        if rule.refused is not None and rule.refused.fullmatch(_encoded(value)):
            return False
        low = _lower(value)
        if any(part in low for part in self.placeholders.get(rule.check, ())):
            return False
        return rule.check != "assigned" or not self._is_filler(low)

    def gates(self, *, ignore_case: bool) -> list[str]:
        """Patterns of which one stands wherever a rule finds something, whatever stands before and after."""
        chosen = [rule for rule in self.rules if rule.ignore_case is ignore_case]
        return sorted(
            {gate for rule in chosen for gate in ([rule.gate] if rule.gate else map(re2.escape, rule.keywords))}
        )

    def _is_filler(self, low: str) -> bool:
        for word in self.fillers:
            low = low.replace(word, "")
        return sum(map(str.isalpha, low)) < 3 and len(low) < 6


def rules_bytes() -> bytes:
    """`redaction_rules.json`: inside the installed package, or at the top of a checkout."""
    packaged = Path(str(resources.files("federated_memory"))) / "client_files" / NAME
    return (packaged if packaged.is_file() else Path(__file__).parents[2] / "client" / NAME).read_bytes()


def load_rules(data: bytes | None = None) -> Rules:
    """The rules of this version of the server, or those of `data`."""
    told = json.loads(rules_bytes() if data is None else data)
    return Rules(
        told["version"],
        tuple(Rule(item) for item in told["rules"]),
        {name: tuple(parts) for name, parts in told["placeholders"].items()},
        tuple(told["fillers"]),
    )


class SecretScanner:
    """Finds what the client would replace. Thread-safe; linear in the length of the text."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules or load_rules()
        self.version = self._rules.version
        exact, folded = ("|".join(self._rules.gates(ignore_case=folds)) for folds in (False, True))
        self._gate = _compile(rf"{exact}|(?i:{folded})|\\u00[2-7]", False)
        # JSON may write "/" as "\/": then a keyword that has one stands nowhere.
        self._line_gate = _compile(rf"{exact}|(?i:{folded})|\\u00[2-7]|\\/", False)

        self._named: dict[str, tuple[Rule, ...]] = {}
        self._harmless: set[str] = set()
        """Short strings in which nothing was found: what fields are called, and their usual values."""
        self._needles, self._rule_of = _needles_of(self._rules.rules)

    def findings(self, text: str) -> list[Finding]:
        """Everything in a text such as a Markdown document, in order."""
        found: list[Finding] = []
        line, done = 1, 0
        for at, kind in self._text(text, 0):
            line, done = line + text.count("\n", done, at), at
            found.append(Finding(kind, line))
        return found

    def redacted(self, text: str) -> tuple[str, list[str]]:
        """The text with `[REDACTED:<kind>]` for each secret that stands in it as it is, and their kinds. One inside
        other encodings stays, and `findings` still tells it."""
        parts: list[str] = []
        kinds: list[str] = []
        at = 0
        for mark in [*_MARK.finditer(text), None]:
            data, done = _encoded(text[at : mark.start() if mark else len(text)]), 0
            for start, end, index in self._spans(data) if len(data) >= _SHORTEST else ():
                kind = self._rules.rules[index].kind
                kinds.append(kind)
                parts += [data[done:start].decode("utf-8", "surrogatepass"), f"[REDACTED:{kind}]"]
                done = end
            parts += [data[done:].decode("utf-8", "surrogatepass"), mark[0] if mark else ""]
            at = mark.end() if mark else at
        return ("".join(parts), kinds) if kinds else (text, [])

    def lines(self, data: bytes) -> Iterator[Finding]:
        """Everything in whole lines of JSONL, counted from 1; what is not JSON is read as text."""
        at = number = 0
        while (hit := self._line_gate.search(data, at)) is not None:
            start = data.rfind(b"\n", 0, hit.start()) + 1
            end = data.find(b"\n", hit.start())
            end = len(data) if end < 0 else end
            number += data.count(b"\n", at, start)
            for _, kind in self._held(data[start:end].decode("utf-8", "replace").lstrip("\ufeff"), 0):
                yield Finding(kind, number + 1)
            if end >= len(data):
                return
            at, number = end + 1, number + 1

    def _text(self, text: str, depth: int) -> list[tuple[int, str]]:
        return self._held(text, depth) if len(text) >= _SHORTEST and self._may_hold(text) else []

    def _may_hold(self, text: str) -> bool:
        return "\\/" in text or self._gate.search(_encoded(text)) is not None

    def _held(self, text: str, depth: int) -> list[tuple[int, str]]:
        if depth < _MOST_NESTED and _may_be_json(text):
            try:
                return self._json(text, depth)
            except (ValueError, RecursionError):
                pass
        found = self._plain(text)
        if not found and "\\u00" in text and _HIDDEN.search(text):
            found = [(0, kind) for _, kind in self._plain(_HIDDEN.sub(_unescaped, text))]
        return found

    def _json(self, text: str, depth: int) -> list[tuple[int, str]]:
        """Raises: ValueError, RecursionError: it is not JSON."""
        _DECODER.decode(text)
        strings: list[tuple[int, str, str]] = []
        end = 0
        previous = name = ""
        while (at := text.find('"', end)) >= 0:
            gap = text[end:at].strip() if at - end < 32 else "far"
            value, stop = _scanstring(text, at + 1, False)
            name = "" if gap == "far" or "{" in gap or "}" in gap else name
            key = "" if text.startswith(":", stop) else _key_of(gap, previous, name)
            strings.append((at, key, value))
            if gap == ":" and previous.lower() in ("name", "key"):
                name = value
            previous, end = value, stop
        held = self._held_in([value for _, _, value in strings], depth + 1)
        named = {key for key in {key for _, key, _ in strings} if key and self._rules_named(key)}
        if not held and not named:  # nearly always
            return []
        return [
            (at, kind)
            for at, key, value in strings
            for kind in (self._value(key, value, held.get(value, [])) if key in named else held.get(value, ()))
        ]

    def _held_in(self, values: Sequence[str], depth: int) -> dict[str, list[str]]:
        """What stands in each of these strings, whatever they are called. A line has many that are short: they are
        looked at together first."""
        distinct = {value for value in values if len(value) >= _SHORTEST} - self._harmless
        short = [value for value in distinct if len(value) <= _SHORT]
        if not self._may_hold("\n".join(short)):
            distinct.difference_update(short)
        held = {value: [kind for _, kind in found] for value in distinct if (found := self._text(value, depth))}
        # What may be JSON is read as that only so far inside: found harmless there, it may not be so elsewhere.
        plain = (value for value in distinct if len(value) <= _NAME and not _may_be_json(value))
        harmless = [value for value in plain if value not in held]
        if len(self._harmless) + len(harmless) > _MOST_NAMED:
            self._harmless = set()
        self._harmless.update(harmless)
        return held

    def _value(self, key: str, value: str, found: list[str]) -> list[str]:
        """What was found in a string, or what it is by the name of its field."""
        if _MARK.fullmatch(value):
            return found
        named, data = self._rules_named(key), _encoded(value)
        if found and any(start == 0 and end == len(data) for start, end, _ in self._spans(data)):
            return found
        for rule in named:
            if rule.value is not None and rule.value.fullmatch(data) and self._rules.accepts(rule, value):
                return [rule.kind]
        return found

    def _rules_named(self, key: str) -> tuple[Rule, ...]:
        """Those that a field of this name speaks for; the same few names stand in every line."""
        if len(key) > _LONGEST_KEY:
            return ()
        known = self._named.get(key)
        if known is None:
            if len(self._named) >= _MOST_NAMED:
                self._named.clear()
            name = _encoded(key)
            rules = (rule for rule in self._rules.rules if rule.key is not None and rule.key.search(name))
            known = self._named[key] = tuple(rules)
        return known

    def _plain(self, text: str) -> list[tuple[int, str]]:
        """What was redacted before parts the text, and is no part of a secret."""
        found: list[tuple[int, str]] = []
        at = 0
        for mark in [*_MARK.finditer(text), None]:
            piece = text[at : mark.start() if mark else len(text)]
            if len(piece) >= _SHORTEST:
                data = _encoded(piece)
                place = done = 0
                for start, _, index in self._spans(data):
                    place, done = place + len(data[done:start].decode("utf-8", "replace")), start
                    found.append((at + place, self._rules.rules[index].kind))
            at = mark.end() if mark else at
        return found

    def _spans(self, data: bytes) -> list[Span]:
        """In order; of those that overlap the earlier rule names the kind."""
        rules = self._rules.rules
        found: list[Span] = []
        for index in sorted({self._rule_of[number] for number in self._needles.Match(data) or ()}):
            found += ((start, end, index) for start, end in self._matches(rules[index], data))
        merged: list[Span] = []
        for start, end, index in sorted(found):
            if merged and start < merged[-1][1]:
                before = merged[-1]
                merged[-1] = (before[0], max(before[1], end), min(before[2], index))
            else:
                merged.append((start, end, index))
        return merged

    def _matches(self, rule: Rule, data: bytes) -> Iterator[tuple[int, int]]:
        at, closing = 0, -1
        while (match := rule.pattern.search(data, at)) is not None:
            start = match.start()
            first, last = match.span(rule.group)
            at = start + 1
            if rule.apart and not _stands_apart(data, start):
                continue
            if rule.digits_before and not _has_digits(data, start, rule.digits_before):
                continue
            if not self._rules.accepts(rule, data[first:last].decode("utf-8", "replace")):
                continue
            if rule.end:
                if closing < at:
                    closing = data.find(rule.end, at)
                    closing = closing if closing >= 0 else len(data)
                if closing < len(data) and closing - start <= rule.within:
                    last = max(last, _end_of_line(data, closing, rule.end))
            yield first, last
            at = max(last, at)


def _needles_of(rules: Sequence[Rule]) -> tuple[Any, list[int]]:
    """The keywords of all rules, looked for at once, and which rule each is of."""
    needles = re2.Set.SearchSet(_options(False))
    rule_of: list[int] = []
    for index, rule in enumerate(rules):
        for word in rule.keywords:
            needles.Add(f"(?i:{re2.escape(word)})" if rule.ignore_case else re2.escape(word))
            rule_of.append(index)
    needles.Compile()
    return needles, rule_of


def _compile(pattern: str, ignore_case: bool) -> Any:
    return re2.compile(pattern, _options(ignore_case))


def _options(ignore_case: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    options.max_mem = 64 << 20
    return options


def _encoded(text: str) -> bytes:
    """RE2 folds two letters outside of ASCII to k and s, which the client's rules do not."""
    data = text.encode("utf-8", "replace")
    return data if text.isascii() else data.replace(b"\xe2\x84\xaa", b"???").replace(b"\xc5\xbf", b"??")


def _entropy(value: str) -> float:
    """Shannon entropy in bits per character."""
    counts = Counter(value).values()
    return math.log2(len(value)) - sum(count * math.log2(count) for count in counts) / len(value) if value else 0.0


def _changes(value: str) -> int:
    """How often digits and other characters take turns, and how many signs stand in it that names do not have."""
    turns = sum(a.isdigit() != b.isdigit() for a, b in zip(value, value[1:], strict=False))  # noqa: RUF007
    return turns + sum(sign in "!@#$%^&~+" for sign in value)


def _lower(text: str) -> str:
    return text.replace("\u0130", "i").lower()


def _key_of(gap: str, previous: str, name: str) -> str:
    """What a string is the value of: its key; the `name` beside its `value`; the `--option` before it in a list."""
    if gap == ":":
        return name if previous.lower() == "value" and name else previous
    return previous.lstrip("-") if gap == "," and previous.startswith("--") else ""


def _stands_apart(data: bytes, at: int) -> bool:
    """No part of a longer word; an escape sequence, of a terminal or of JSON in text, ends in a letter too."""
    before = data[max(0, at - 10) : at]
    is_word = before[-1:].isalnum() or before[-1:] == b"_"
    return not is_word or _ESCAPE_END.search(before) is not None


def _has_digits(data: bytes, at: int, count: int) -> bool:
    before = data[max(0, at - count) : at]
    return len(before) == count and before.isdigit()


def _may_be_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[", '"')


def _end_of_line(data: bytes, at: int, end: bytes) -> int:
    """Where the closing line of a block ends."""
    stop = data.find(b"-----", at + len(end), at + len(end) + 80)
    return stop + 5 if stop >= 0 else at + len(end)


def _unescaped(found: re.Match[str]) -> str:
    letter = chr(int(found[1], 16))
    return letter if letter.isalnum() or letter in "-_=+/.:@" else found[0]
