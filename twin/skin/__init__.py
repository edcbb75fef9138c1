"""Soft skin: one interface, `Skin.solve(goals) -> vertices`, several solvers (DESIGN section 6).

- `exact.ExactSkin`: the hyperelastic shell in equilibrium, lips that do not pass through each other.
- `linear.LinearSkin`: its tangent at rest.

Two more belong here and are still to come: ``fast.py``, the linear map plus a learned residual with an error
certificate, and ``bullet.py``, PyBullet's deformable skin as the second opinion. Each is another `Skin`.
Other contacts (lips on teeth, lids on eyeballs, skin on skull) will stand beside `contact.LipContact`.
"""

from facetwin.twin.skin.base import Material, Skin, SolveReport
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.linear import LinearSkin

__all__ = ["ExactSkin", "LinearSkin", "Material", "Skin", "SolveReport"]
