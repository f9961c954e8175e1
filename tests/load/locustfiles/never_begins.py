"""A locustfile whose import does not end."""

import os

os.read(os.pipe()[0], 1)
