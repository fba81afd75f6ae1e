"""What a certificate asks of a backend: activations, gradients, updates and the cost of stand-ins."""
