"""How good a model is: what is asked, what is counted, and the report."""
