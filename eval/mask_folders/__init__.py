"""Folders of images and masks as a set to import."""
