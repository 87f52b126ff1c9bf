"""One thread for local kernels, and property tests that are the same each time and may take as long as they need.

The tests' arrays are small, and idle threads of several processes get in each other's way.
"""

from collections import Counter
from pathlib import PurePath
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
TOGETHER = {  # tests that one worker of pytest-xdist takes, beside those of one file
    "networks": ("test_netem_networks", "test_netem_grid", "test_namespaces"),  # they look at all of the machine's
    "processes": ("test_restart", "test_processes", "test_garbage"),  # they share running parties
}
APART = ("test_cluster", "test_fuzz")  # whose tests share nothing, and take long


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What shares running processes is slow. Workers take what takes longest first: no long file is left at the end."""
    for item in items:
        if "running" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        slow = Counter(scope(item.nodeid) for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: (-slow[scope(item.nodeid)], "integration" not in item.nodeid))


def scope(nodeid: str) -> str:
    """Which tests go to one worker together: a file's, those of several files, or one alone."""
    file = nodeid.partition("::")[0]
    name = PurePath(file).stem
    return nodeid if name in APART else next((group for group, files in TOGETHER.items() if name in files), file)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By scope, in the order in which workers have collected."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    config.option.loadscopereorder = False  # it would leave files of few tests to the end: those with processes
    return ByScope(config, log)
