"""Duplicates: the scan of a source before planning, and the comparison of images by bytes and by look.

What is left out is recorded in the plan.
"""
