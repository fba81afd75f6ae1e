"""The ceiling of a network on a machine: the shortest time in which the machine computes its layers."""
