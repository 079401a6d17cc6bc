"""English, lightly: which words say nothing, and which forms a word takes (`deploying` finds `deploy`).

Forms are pieces of a regular expression that RE2 and ripgrep read alike. Words of other languages stand for themselves.
"""

from __future__ import annotations

_STOP_WORDS = """
a about above after again against all also am an and any are as at be because been before being below between both but
by can could did do does doing don down during each few for from further had has have having he her here hers him his
how i if in into is isn it its itself just ll me more most my near no nor not now of off on once only or other our out
over own re s same she should so some such t than that the their them then there these they this those through to too
under until up us ve very was we were what when where which while who whom why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# Forms that no ending explains; none that is more often another word (`left`, `rose`, `ground`).
_IRREGULAR = """
arise arose arisen; awake awoke; beat beaten; become became; begin began begun; bend bent; bite bit bitten; blow blew
blown; break broke broken; bring brought; build built; burn burnt; buy bought; catch caught; choose chose chosen;
come came; creep crept; deal dealt; dig dug; draw drew drawn; dream dreamt; drink drank drunk; drive drove driven;
eat ate eaten; fall fell fallen; feed fed; feel felt; fight fought; find found; fly flew flown; forget forgot forgotten;
forgive forgave forgiven; freeze froze frozen; get got gotten; give gave given; go went gone; grow grew grown;
hang hung; hear heard; hide hid hidden; hold held; keep kept; know knew known; lead led; learn learnt; leave left;
lend lent; lose lost; make made; mean meant; meet met; pay paid; ride rode ridden; ring rang rung; run ran;
say said; see saw seen; seek sought; sell sold; send sent; shake shook shaken; shine shone; shrink shrank shrunk;
sing sang sung; sink sank sunk; sit sat; sleep slept; slide slid; speak spoke spoken; spend spent; spin spun;
spoil spoilt; spring sprang sprung; stand stood; steal stole stolen; stick stuck; strike struck; swear swore sworn;
sweep swept; swim swam swum; swing swung; take took taken; teach taught; tear tore torn; tell told; think thought;
throw threw thrown; understand understood; wake woke woken; wear wore worn; weave wove woven; weep wept; win won;
withdraw withdrew withdrawn; write wrote written; overwrite overwrote overwritten; rebuild rebuilt; rewrite rewrote
rewritten; resend resent; rerun reran; undo undid undone; override overrode overridden; unwind unwound;
child children; foot feet; goose geese; half halves; knife knives; leaf leaves; life lives; man men; mouse mice;
person people; shelf shelves; tooth teeth; wife wives; wolf wolves; woman women; index indices; vertex vertices;
matrix matrices; criterion criteria; analysis analyses; hypothesis hypotheses
"""
_GROUPS = [tuple(group.split()) for group in _IRREGULAR.split(";")]
_ONE_WAY = frozenset({"left", "lives", "leaves", "resent", "lead", "felt", "fell"})
_OTHERS = {
    word: tuple(other for other in group if other != word)
    for group in _GROUPS
    for word in group
    if word not in _ONE_WAY
}

_VOWELS = frozenset("aeiouy")
_SIBILANTS = ("s", "x", "z", "ch", "sh")
_SHORTEST_STEM = 3
_ENDINGS = "e|es|s|d|ed|er|ers|r|rs|ing|ings|ly|ment|ments"
_ENDINGS_AFTER_T_OR_S = "|or|ors|ion|ions|able"
_ENDINGS_OF_Y = "y|ies|ied|ying"


def other_forms(word: str) -> tuple[str, ...]:
    """Forms of `word` that do not follow from its spelling: `bought` of `buy`."""
    return _OTHERS.get(word, ())


def forms(word: str) -> list[str]:
    """Patterns of the forms of `word`, lower-case letters and digits; all begin with its first letter."""
    if not (word.isascii() and word.isalpha()) or len(word) < _SHORTEST_STEM:
        return [word]
    stem = stem_of(word)
    if _ends_in_changing_y(stem):
        inflected = f"{stem[:-1]}(?:{_ENDINGS_OF_Y})"
    else:
        endings = _ENDINGS + (_ENDINGS_AFTER_T_OR_S if stem[-1] in "ts" else "")
        # A stem that is a stop word (`not` of `notes`) counts only with an ending.
        is_optional = stem == word or stem not in STOP_WORDS
        inflected = f"{stem}{_doubled(stem)}(?:{endings})" + ("?" if is_optional else "")
    return [inflected] if stem == word else [word, inflected]


def common_start(word: str) -> str:
    """What every form of `word` begins with."""
    if not (word.isascii() and word.isalpha()) or len(word) < _SHORTEST_STEM:
        return word
    stem = stem_of(word)
    return stem[:-1] if _ends_in_changing_y(stem) else stem


def stem_of(word: str) -> str:
    """Without plural, `-ing`, `-ed`, a long word's `-ment` and a last `e`."""
    stem = _singular(word)
    for ending in ("ing", "ed"):
        rest = stem.removesuffix(ending)
        if rest != stem and _is_stem(rest):
            return _single(rest)
    for ending, least in (("ment", 5), ("e", _SHORTEST_STEM)):
        rest = stem.removesuffix(ending)
        if rest != stem and len(rest) >= least and _is_stem(rest):
            return rest
    return stem


def _singular(word: str) -> str:
    if len(word) <= _SHORTEST_STEM or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("es") and word[:-2].endswith(_SIBILANTS) and _is_stem(word[:-2]):
        return word[:-2]
    return word[:-1]


def _is_stem(rest: str) -> bool:
    return len(rest) >= _SHORTEST_STEM and not _VOWELS.isdisjoint(rest)


def _ends_in_changing_y(stem: str) -> bool:
    """`policy` is `policies` too, `deploy` is not `deploies`."""
    return stem.endswith("y") and len(stem) > _SHORTEST_STEM and stem[-2] not in _VOWELS


def _single(stem: str) -> str:
    """`runn` is `run`; but `tell` and `pass` end so."""
    if stem[-1] == stem[-2] and stem[-1] not in "lsz" and len(stem) > _SHORTEST_STEM:
        return stem[:-1]
    return stem


def _doubled(stem: str) -> str:
    """`run` may double its last letter before an ending."""
    if stem[-1] in _VOWELS or stem[-1] in "wx" or stem[-2] not in _VOWELS:
        return ""
    return f"{stem[-1]}?"
