"""The engines that drive the connections of one process, and what they drive."""
