"""A load run inside Locust: the master, its workers, and the users that a locustfile imports."""
