"""Who imports this has no more than macOS has; prunecli must not have been imported before."""

import sys

from other_system import MACOS

assert not any(name.partition(".")[0] == "prunecli" for name in sys.modules)
exec(MACOS)  # noqa: S102
