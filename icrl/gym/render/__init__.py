"""Pictures and texts of environments in play: ``frame.py`` frames a scene, one file draws each kind of scene."""
