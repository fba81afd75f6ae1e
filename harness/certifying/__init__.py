"""The measurements behind a certificate: activations, gradients, updates and the cost of stand-ins."""
