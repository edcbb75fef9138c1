"""Audio front end, learners, controllers, baselines and scores."""
