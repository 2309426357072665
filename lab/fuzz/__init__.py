"""Random trials of the protocol under faults and adversaries, in the manner of TigerBeetle's VOPR.

A `case` is everything one trial depends on; `draw` makes one of a seed; `trial` runs it, first through a storm, then
in the calm, and judges it; `swarm` runs many side by side; `shrink` makes a failing case small; `story` tells how it
fails. docs/fuzzing.md is the guide.

    from tradebft.lab.fuzz.draw import draw
    from tradebft.lab.fuzz.trial import try_case

    outcome = try_case(draw(17))
    outcome.violations, outcome.digest
"""
