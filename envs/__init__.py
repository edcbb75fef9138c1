"""Gymnasium environments of the face before its mirror; each takes a rig."""
