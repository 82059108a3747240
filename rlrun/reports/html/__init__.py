"""One HTML file of runs that opens offline: what Python writes here is complete without its scripts, which add sorting and charts."""
