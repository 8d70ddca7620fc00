"""Chapter 1 builds on no earlier chapter's code."""
