"""A deployment for the doctor."""

from pathlib import Path

import pytest
from parties import tiny

from mpcnet.launch.deployment.certs import LISTENERS
from mpcnet.launch.deployment.deploy import write_deployment
from mpcnet.launch.simulation.network import free_addresses


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A whole deployment, with addresses of this machine."""
    write_deployment(tmp_path, tiny().config(), dict(zip(LISTENERS, free_addresses(3), strict=True)))
    return tmp_path
