"""Segmentation models and what uses them: the region selector and the artifact filter.

A segmenter is an UperNet folder in the layout of transformers.
"""
