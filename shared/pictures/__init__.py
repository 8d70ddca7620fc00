"""Pictures of how things work, a module a chapter: each draws a lesson's own tensors on a new figure and returns it."""
