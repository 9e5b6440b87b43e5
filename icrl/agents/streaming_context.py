"""The in-context agent whose context never ends: all that happened was read once, and nothing is read again."""

from icrl.agents.in_context import InContextAgent
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.registry import agents


@agents.register("streaming-context", paper="Jiang et al. 2023 (rolling buffer of a sliding window); Lu et al. 2023")
@struct.dataclass
class StreamingContextAgent(InContextAgent):
    """A decision rests on what the model has kept of its whole life, in a memory of one size.

    A recurrent model keeps its state. A transformer with ``attention_window`` W keeps, in a ring, keys and values of
    the latest W tokens at each layer; what these once saw is in them, so through L layers it reaches back L (W - 1)
    tokens, as in training on contexts longer than W. That is the difference to ``RollingContextAgent``, which forgets
    what left its window, and reads the window again for it.

    ``policy`` says that it ``is_endless``; ``max_steps`` is the context of training, and binds nothing here.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "an endless model: recurrent, or of attention_window below its capacity and positions rotary or none"
        require(getattr(self.policy, "is_endless", False), "policy", "one whose memory ends", allowed)

    @property
    def capacity(self) -> None:
        return None
