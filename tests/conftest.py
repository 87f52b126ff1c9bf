"""One thread for local kernels, and property tests that are the same each time and may take as long as they need.

The tests' arrays are small, and idle threads of several processes get in each other's way.
"""

from pathlib import PurePath
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
NETWORKS = ("test_netem_networks", "test_netem_grid", "test_namespaces")  # they look at all networks of the machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares running processes is slow."""
    for item in items:
        if "running" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests go to one worker, as do all those that look at this machine's networks."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "networks" if PurePath(file).stem in NETWORKS else file

    return ByFile(config, log)
