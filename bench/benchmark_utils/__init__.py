"""What the tasks, the methods and the objective of the benchmark share."""
