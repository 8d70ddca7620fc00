"""Appendix a builds on no earlier chapter's code."""
