"""Tables of methods on a task: every method, its runs, the recorded rows, and what is read from them."""
