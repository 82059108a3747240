"""What rlrun promises when things go wrong, measured."""
