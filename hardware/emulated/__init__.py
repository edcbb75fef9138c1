"""The emulated rig: a robot as seen from the wire, in processes of its own behind a pty."""
