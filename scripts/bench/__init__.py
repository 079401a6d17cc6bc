"""Speed, as ratios: `make bench`, or `python -m scripts.bench [--quick] [--only PATTERN] [--json FILE]`.

An absolute time says more about the machine than about the code, so every goal compares with a reference that runs in
the same process and the same minute: rounds in shuffled order, medians. Only ratios gate.

The words of this package:

- *measure*: something that runs once and returns what it cost (milliseconds unless it says otherwise).
- *goal*: a measured median, its reference and the largest ratio that passes; without a target it is only reported.
- *bench*: sets something up and yields its goals. *group*: a module with a tuple `BENCHES`.

To add a group: write a module with `BENCHES = (Bench("group/name", function), …)` and list it in `__main__.GROUPS`. A
function takes `Options`, prepares what it needs in `options.folder`, calls `interleave` and yields `Goal`s.
"""
