"""COCO files, and the polygons of SynthScars, as a set to import; see `eval.imports`."""
