"""rlrun: deep reinforcement-learning experiments from the shell."""

__version__ = "0.1.0"
