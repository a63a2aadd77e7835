"""One service over many stores: pools, flavors, and where each queue lies."""
