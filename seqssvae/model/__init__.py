"""p(x | y, z), the Pyro model and guide, and how a config becomes one."""
