"""Schedulers: each chooses the next step of an execution, in its own way."""
