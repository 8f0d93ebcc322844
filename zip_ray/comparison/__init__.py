"""Many runs side by side on one pool, and the report that compares them."""
