"""How a worker opens a queue, whatever form it has, and what a producer and a consumer do with it."""
