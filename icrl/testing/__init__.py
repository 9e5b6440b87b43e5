"""The laws that our own things obey, for yours: each check is one line of a test.

    from icrl.testing import check_agent, check_environment, check_filter, check_model

    def test_my_environment():
        check_environment(Maze(horizon=20))

A broken law raises ``BrokenLawError``, an ``AssertionError`` of one line: whose law, which, what was found and what
is right.
"""

from icrl.testing._law import BrokenLawError
from icrl.testing.agents import check_agent
from icrl.testing.environments import check_environment
from icrl.testing.filters import check_filter
from icrl.testing.models import check_model

__all__ = ["BrokenLawError", "check_agent", "check_environment", "check_filter", "check_model"]
