"""Predictions of labelled clips to scores and comparisons: the one path of all that is reported."""
