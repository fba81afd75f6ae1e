"""A suite on the nodes of a cluster: each case is the same fresh process as in a local run."""
