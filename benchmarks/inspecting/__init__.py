"""Looking at models, machines and stored figures without measuring."""
