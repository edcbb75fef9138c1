"""Soft skin: one interface, `Skin.solve(goals) -> vertices`, several solvers."""
