"""Chapter 3 builds on no earlier chapter's code."""
