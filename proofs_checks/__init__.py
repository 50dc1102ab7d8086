"""One executable check for each statement of the paper, and the instances that checks and tests share.

Every check is a function of the constants of its claim, and it must refute the wrong claims that stand beside it.

* ``paper.toml`` holds the statements in our own words; :mod:`proofs_checks.registry` says what a verdict and a grade
  are.
* The checks are in one module for each appendix: ``a_convexity``, ``b_equivalence``, ``c_convergence``,
  ``d_impossibility``, ``e_sum``, ``f_gradient_pac``, ``g_local_pac``, ``h_counter_gradient``, ``k_single_point``,
  ``l_linear_classification``; in ``definitions`` and ``main_text``; and in ``companion_*`` for the statements that go
  further.
* :mod:`proofs_checks.exact` decides in rationals what :mod:`proofs_checks.search` finds; :mod:`proofs_checks.steps`
  has the steps that several proofs share.
* :mod:`proofs_checks.ledger` writes LEDGER.md, ledger.json and ERRATA.md, :mod:`proofs_checks.graph` draws what rests
  on what, and :mod:`proofs_checks.report` makes one HTML page; ``python -m proofs_checks`` runs everything.
* :mod:`proofs_checks.generators` makes the problems on which claims are tried: plain ones, and the corners where a
  claim that is almost right fails.  :mod:`proofs_checks.strategies` offers the same to Hypothesis.
"""
