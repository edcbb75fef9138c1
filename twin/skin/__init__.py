"""Soft skin: one interface, `Skin.solve(goals) -> vertices`, several solvers (DESIGN section 6).

- `exact.ExactSkin`: the hyperelastic shell in equilibrium, lips that do not pass through each other.
- `graded.GradedSkin`: the same on half the vertices.
- `linear.LinearSkin`: its tangent at rest.
- `fast.FastSkin`: learned from its solutions, batched, differentiable, with an error certificate.
- `bullet.BulletSkin`: PyBullet's deformable, the second opinion.

Underneath: `shell` and `bending` are the elastic energy, `contact` lip on lip, `walls` skin on hard parts,
`tangent` and `fronts` the factored stiffness that proposes steps, `strip` the check against beam theory.
"""

from facetwin.twin.skin.base import Branches, Material, Skin, SolveReport
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.graded import GradedSkin
from facetwin.twin.skin.linear import LinearSkin

__all__ = ["Branches", "ExactSkin", "GradedSkin", "LinearSkin", "Material", "Skin", "SolveReport"]
