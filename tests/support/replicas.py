"""Parties of which server0 has a replica, and what they are asked."""

import pytest
from parties import some_tokens

TOKENS = some_tokens([5, 3])
ONE = pytest.mark.parametrize("parties", [{"replicas": ("replica0",)}], indirect=True, ids=["replica0"])
