"""The whole path as functions, called by the command line and the face: build → train → ask, and the demo."""
