"""Gymnasium environments of the face before its mirror; each takes a rig.

``facetwin/MirrorBabble-v0``
    Command in; picture, landmarks and the command really sent out. No task.
``facetwin/Mimic-v0``
    A goal environment: bring the landmarks of a given pose onto one's own face.

Importing this package registers both. Gymnasium gave up its plugins with 1.0, so it can't know them by
itself: write ``import facetwin.envs`` first, or let it import by name,
``gymnasium.make("facetwin.envs:facetwin/MirrorBabble-v0")``.
"""

from __future__ import annotations

#: id -> (class, class of the batch or None, steps after which an episode is truncated)
ENVS = {
    "facetwin/MirrorBabble-v0": (
        "facetwin.envs.mirror_babble:MirrorBabble", "facetwin.envs.vector:MirrorBabbleVector", 200,
    ),
    "facetwin/Mimic-v0": ("facetwin.envs.mimic:Mimic", None, 50),
}  # fmt: skip


def register_envs() -> None:
    """Make the environments known to `gymnasium.make`; doing it twice does nothing."""
    from gymnasium.envs.registration import register, registry

    for name, (one, many, steps) in ENVS.items():
        if name not in registry:
            register(id=name, entry_point=one, vector_entry_point=many, max_episode_steps=steps)


register_envs()
