"""An application for each library whose worker runs as a program of its own."""
