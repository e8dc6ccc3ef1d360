"""Mutation testing: the unit tests have to find small faults in the decisions of ops."""
