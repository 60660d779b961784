"""Scores of answers: metrics, baselines, intervals and the records they are written as; arrays in, records out."""
