"""The digital twin: rig table, kinematics, servos, soft skin, camera, landmark tracker."""
