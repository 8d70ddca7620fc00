"""The kinds of worksheets, by what they teach; `worksheets.py` mixes them."""
