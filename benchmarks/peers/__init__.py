"""What rlrun is compared with. ``python -m benchmarks.peers.NAME CASE FRAMES SEED`` prints one JSON line."""
