"""gymnasium's side: environments, agents, rollouts."""
