"""The embedded world: scenes, captions, a renderer. numpy and Pillow only."""
