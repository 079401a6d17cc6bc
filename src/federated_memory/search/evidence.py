"""Which rows of the index hold which terms of a query: what a ranking is made of (SPEC: INDEX-6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from federated_memory.index.reader import Found, RowScope, Table, View
from federated_memory.search.ranking import weights_of
from federated_memory.search.terms import Term, Terms

MOST_ROWS = 10_000
"""Of a common term, so many rows are ranked, the newest."""
_FEW_ROWS = 2_000
_ALL_ROWS = 20_000
_LEAST_ROWS = 2_500
_MOST_HEADS = 5_000
_ALIKE_ROWS = 1_000
_NO_LIMIT = 2**31
_SHORT = 2
_FEW_NOTES = 500
_BASE = 1.5
"""What a term counts however many rows hold it: in a small memory rarity says little."""


@dataclass(slots=True)
class Evidence:
    """What each term was found in; sets of terms are bits. `capped` are the terms too common to rank all rows of."""

    terms: Sequence[Term] = ()
    weights: tuple[float, ...] = ()
    rows: dict[int, int] = field(default_factory=dict)
    titles: dict[int, int] = field(default_factory=dict)
    facts: dict[int, int] = field(default_factory=dict)
    capped: list[str] = field(default_factory=list)
    is_whole: bool = True
    """Whether something holds all the terms; known once it is ranked."""
    said: set[int] = field(default_factory=set)
    """Rows whose speaker the query names."""

    @property
    def bases(self) -> dict[int, int]:
        """Of the terms that stand in for others, by number, for which one."""
        numbers = {term.text: number for number, term in enumerate(self.terms)}
        return {number: numbers[term.alike_of] for number, term in enumerate(self.terms) if term.alike_of in numbers}

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.titles or self.facts)


def gather(
    view: View, terms: Sequence[Term], excluded: Sequence[Term], scope: RowScope, tables: Sequence[Table]
) -> Evidence:
    """Raises: IndexUnusable: the index is damaged, or the time is up."""
    terms = _without_needless_parts(view, terms, scope, tables)
    evidence = Evidence(terms)
    unless = " OR ".join(f"({term.match})" for term in excluded)
    expressions = [f"({term.match}) NOT ({unless})" if unless else term.match for term in terms]
    counts = [0] * len(terms)
    bases = evidence.bases
    for table in tables:
        read = _noted_rows if table == "noted" else _rows
        results = read(view, table, terms, expressions, scope, evidence.capped)
        for number, found in enumerate(results):
            counts[number] += found.total
            stands_for = bases.get(number)
            rows = found.rows if stands_for is None else list({*found.rows}.difference(results[stands_for].rows))
            _add(evidence.rows, rows, 1 << number)
    speakers = " OR ".join(term.speaker for term in terms if term.speaker)
    if speakers and "spoken" in tables:
        evidence.said.update(view.rows("spoken", speakers, scope).newest(MOST_ROWS).rows)
    for number, expression in enumerate(expressions):
        for column, heads in (("title", evidence.titles), ("facts", evidence.facts)):
            found_heads = view.heads("title" if column == "title" else "facts", expression, _MOST_HEADS)
            for source in found_heads:
                heads[source] = heads.get(source, 0) | 1 << number
            if not counts[number]:
                counts[number] = len(found_heads)
    rarity = weights_of(Terms(tuple(terms), ()), counts, scope.count)
    evidence.weights = tuple(weight + _BASE * term.weight for weight, term in zip(rarity, terms, strict=True))
    return evidence


def _without_needless_parts(
    view: View, terms: Sequence[Term], scope: RowScope, tables: Sequence[Table]
) -> Sequence[Term]:
    """Parts of what names one thing are looked for when that stands nowhere whole."""
    wholes = {term.whole for term in terms if term.whole}
    found = {
        term.text
        for term in terms
        if term.text in wholes and any(view.rows(table, term.match, scope).newest(0).total for table in tables)
    }
    return [term for term in terms if term.whole not in found] if found else terms


def _noted_rows(
    view: View, table: Table, terms: Sequence[Term], expressions: Sequence[str], scope: RowScope, capped: list[str]
) -> list[Found]:
    """Of a term that many memories hold, the newest of them, those that also hold a rarer term, and the newest that
    hold all the common ones: memories are short, so what is left out holds less of the query, or is older."""
    reading = [view.rows(table, expression, scope) for expression in expressions]
    found = [rows.newest(_FEW_NOTES) for rows in reading]
    for number, term in enumerate(terms):
        if not found[number].rows and len(term.text) <= _SHORT and term.match == f'"{term.text}"':
            reading[number] = view.rows(table, f"{term.match}*", scope)
            found[number] = reading[number].newest(_FEW_NOTES)
    common = [number for number, one in enumerate(found) if not one.is_all and not terms[number].alike_of]
    rare = " OR ".join(f"({expressions[number]})" for number, one in enumerate(found) if one.is_all and one.rows)
    every = " AND ".join(f"({expressions[number]})" for number in common)
    together = view.rows(table, every, scope).newest(_FEW_NOTES).rows if len(common) > 1 else []
    for number in common:
        beside = view.rows(table, f"({expressions[number]}) AND ({rare})", scope).newest(_NO_LIMIT).rows if rare else []
        held = dict.fromkeys([*found[number].rows, *together, *beside])
        found[number] = Found(list(held), False, found[number].total)
        capped.append(terms[number].text)
    return found


def _add(rows: dict[int, int], found: list[int], bit: int) -> None:
    """Note the bit for each row."""
    held = rows.get
    rows.update({row: held(row, 0) | bit for row in found})


def _rows(
    view: View, table: Table, terms: Sequence[Term], expressions: Sequence[str], scope: RowScope, capped: list[str]
) -> list[Found]:
    """The rows of each term: all of a rare one's, of common ones the newest."""
    most = _FEW_ROWS if table == "spoken" else _NO_LIMIT
    reading = [view.rows(table, expression, scope) for expression in expressions]
    found = [
        rows.newest(min(most, _ALIKE_ROWS) if term.alike_of else most)
        for rows, term in zip(reading, terms, strict=True)
    ]
    for number, term in enumerate(terms):
        if not found[number].rows and len(term.text) <= _SHORT and term.match == f'"{term.text}"':
            reading[number] = view.rows(table, f"{term.match}*", scope)
            found[number] = reading[number].newest(most)
    common = sorted(
        (one.total, number) for number, one in enumerate(found) if not one.is_all and not terms[number].alike_of
    )
    spent = sum(len(one.rows) for one in found if one.is_all)
    has_rare = any(one.is_all for one in found)
    for place, (_, number) in enumerate(common):
        share = max(_LEAST_ROWS, (_ALL_ROWS - spent) // (len(common) - place))
        limit = MOST_ROWS if place == 0 and not has_rare else min(MOST_ROWS, share)
        found[number] = reading[number].newest(limit)
        spent += len(found[number].rows)
        if not found[number].is_all:
            capped.append(terms[number].text)
    return found
