"""The Python API: `import mpcnet`, and see docs/python.md. Uses everything else of `launch`; only commands use it."""

from mpcnet.launch.api.aclient import AsyncClient
from mpcnet.launch.api.client import Client
from mpcnet.launch.api.planning import Operation, Plan, plan
from mpcnet.launch.api.results import Classification, Ranked, Usage
from mpcnet.launch.requests.entities import Entity
from mpcnet.launch.requests.spans import Span

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Entity",
    "Operation",
    "Plan",
    "Ranked",
    "Span",
    "Usage",
    "connect",
    "local",
    "plan",
]

connect = Client.connect
local = Client.local
