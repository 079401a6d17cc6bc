"""How well search finds: `make bench-quality`, or `python -m scripts.quality [--split dev|test] [--http]`.

Sets of texts and questions, each with the texts that answer it, are made by `scripts/corpus` from seeds and stored in a
real root; every question is then put to the search that agents use. Tune on the split `dev` only: `test` tells whether
what helped there helps at all.

The words of this package:

- *any@k*: the share of questions with an answering text among the first k texts found. *recall@k*: the mean share of
  the answering texts that are among them. *MRR*: the mean of 1/place of the first. *page*: any within one answer of the
  default size. A text counts once, at the place of its first hit.
- *own store*: a root that holds one set only; *one store*: a root with every set.
- *plain*: the reference, BM25 over single lines of text without stemming (`reference.py`).
"""
