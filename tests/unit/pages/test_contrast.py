"""The palette, light and dark: what is read stands out enough from what is behind it (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re

import pytest

from federated_memory.pages.assets import FOLDER

CSS = (FOLDER / "pages.css").read_text(encoding="utf-8")
TEXT = [
    ("ink", "ground"), ("ink", "surface"), ("ink", "sunken"), ("ink", "accent-soft"), ("ink", "good-soft"),
    ("muted", "ground"), ("muted", "surface"), ("muted", "sunken"), ("muted", "accent-soft"), ("muted", "good-soft"),
    ("accent", "ground"), ("accent", "surface"), ("accent", "accent-soft"), ("accent-ink", "accent"),
    ("mark-ink", "mark"), ("good", "good-soft"), ("warn", "warn-soft"), ("bad", "bad-soft"), ("surface", "bad"),
    ("diff-ink", "surface"), ("diff-ink", "added"), ("diff-ink", "added-deep"), ("diff-ink", "removed"),
    ("diff-ink", "removed-deep"),
]  # fmt: skip
EDGES = [
    ("edge", "surface"),
    ("edge", "ground"),
    ("accent", "surface"),
    ("accent", "ground"),
    ("accent", "accent-soft"),
]
"""Borders of fields, and the ring around what has the focus."""


def palette(scheme: str) -> dict[str, str]:
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    )
    return light if scheme == "light" else {**light, **dark}


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.spec("SITE-11")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_pair_of_colours_stands_out_enough(scheme: str) -> None:
    colours = palette(scheme)
    found = {(front, back, 4.5): contrast(colours[front], colours[back]) for front, back in TEXT}
    found |= {(front, back, 3.0): contrast(colours[front], colours[back]) for front, back in EDGES}

    assert {pair: round(ratio, 2) for pair, ratio in found.items() if ratio < pair[2]} == {}


@pytest.mark.spec("SITE-11")
def test_both_schemes_have_every_colour_and_no_other_colour_is_used() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    rest = CSS.replace(light, "").replace(dark, "")

    assert re.findall(r"--([a-z-]+):", light) == re.findall(r"--([a-z-]+):", dark)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsl", rest) == []
    assert {*re.findall(r"var\(--([a-z-]+)\)", rest)} <= {*re.findall(r"--([a-z-]+):", light)}


def test_contrast_is_computed_as_the_standard_has_it() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48
