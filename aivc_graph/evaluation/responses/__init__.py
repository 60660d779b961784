"""Responses to interventions as a table of conditions, without tissue: measured, predicted, and how to score them."""
