"""A locustfile that stands still while it is imported."""

import os

os.read(os.pipe()[0], 1)
