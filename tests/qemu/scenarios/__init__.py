"""Scenarios: what the host does to a device under the guest's hands, and what the guest must make
of it.

A scenario is a row of the table of machines (machines.py) whose host (host.py) does what the guest
asks it for; the guest's half is a self-test, which the row's `filter=` picks. Each module here has
its rows in ROWS. A row's name begins with the number of its entry in the catalogue (catalogue.py):
`f01-...`. """

import importlib
import pkgutil

from scenarios.catalogue import CATALOGUE  # noqa: F401

SCENARIOS = tuple(row for module in sorted(info.name for info in pkgutil.iter_modules(__path__))
                  for row in getattr(importlib.import_module(f"scenarios.{module}"), "ROWS", ()))
