"""What is read from runs afterwards. Never imports torch."""
