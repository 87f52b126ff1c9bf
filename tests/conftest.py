"""One thread for local kernels, and property tests that are the same each time and may take as long as they need.

The tests' arrays are small, and idle threads of several processes get in each other's way.
"""

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
NETWORKS = ("test_netem_networks", "test_netem_grid", "test_namespaces")  # they look at all networks of the machine


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest-xdist a file's tests go to one worker, as do those that share processes or this machine's networks."""
    for item in items:
        group = "networks" if item.path.stem in NETWORKS else item.path.stem
        if "running" in getattr(item, "fixturenames", ()):
            group = "processes"
            item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.xdist_group(group))
