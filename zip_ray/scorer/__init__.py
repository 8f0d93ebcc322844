"""The frozen model as the loop sees it."""
