"""The paper's comparisons, each as rows of equal cost that are trained, measured and put into one table."""
