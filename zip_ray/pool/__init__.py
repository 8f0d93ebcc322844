"""The pool as the driver sees it: its contract, and the scheduling behind it. No Ray."""
