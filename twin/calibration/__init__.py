"""Calibration: fit a rig's table to a recording of what it was told and how its face moved.

Arrays in, dotted keys of a rig table out; where the arrays come from is the caller's business
(`facetwin rig calibrate` reads a recording). `observed` checks and splits the data, `traces` plays servos,
`face_map` maps positions to landmarks, `fit` fits, `scores` says how well, `rig_file` writes the table.
"""
