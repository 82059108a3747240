"""The fast path for MLPs on the CPU: NumPy on memory shared with the torch tensors. The plain path is the meaning and the oracle."""
