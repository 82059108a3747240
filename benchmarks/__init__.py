"""Side-by-side benchmarks. They install nothing: ``pip install -e '.[bench]'`` brings the peers."""
