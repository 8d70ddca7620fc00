"""Chapter 2 builds on no earlier chapter's code."""
