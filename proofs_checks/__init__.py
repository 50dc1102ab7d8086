"""One executable check for each statement of the paper, and the instances that checks and tests share.

Every check is a function of the constants of its claim, and it must refute the wrong claims that stand beside it.
:mod:`proofs_checks.generators` makes the problems on which claims are tried: plain ones, and the corners where a
claim that is almost right fails.  :mod:`proofs_checks.strategies` offers the same to Hypothesis.
"""
