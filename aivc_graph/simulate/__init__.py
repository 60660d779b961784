"""Tissue with known truth, written as a vendor would deliver it."""
