"""Classification data as a bandit: the arms are the classes, the reward tells only whether the choice was right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._fresh_contexts import FreshContexts
from icrl.envs._tables import load_table, require_source

BLOBS = "blobs"
ROWS, DIM, CLASSES, SPREAD = 250, 8, 5, 0.4  # N, d, K of the table of blobs, and their standard deviation


@struct.dataclass
class ClassificationTask(TaskParams):
    """The table."""

    features: Array = struct.field(default_factory=lambda: jnp.zeros((ROWS, DIM)))  # [N, d] float32, rows of length 1
    labels: Array = struct.field(default_factory=lambda: jnp.zeros(ROWS, jnp.int32))  # [N] int32 in 0 .. K - 1


@environments.register("ClassificationBandit-v0", paper="Deb et al. 2024")
@dataclasses.dataclass(frozen=True)
class ClassificationBandit(FreshContexts[ClassificationTask]):
    """Each pull shows a row of ``table``, drawn uniformly; reward 1 for its class, else 0. Deb et al. take T = 10 000.

    Deb et al. (Contextual Bandits with Online Neural Regression, ICLR 2024) speak of losses y; reward = 1 - y. Columns
    are standardised and rows have length 1. Rows are drawn with replacement (theirs are shuffled), so that the expected
    regrets of constant arms are exact and a table may be shorter than T.

    ``table`` is ``blobs`` (K = 5 Gaussian clouds in R^8, other ones in every task), a name, or a file: see
    ``icrl/envs/_tables.py`` for names, forms, and where data can be had. A file is read, and checked, when ``spec`` is
    first asked for. But for blobs there is one task: the table.
    """

    table: str = setting(BLOBS, help="blobs, digits, wine, breast-cancer, or the path of a file")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table != BLOBS:
            require_source(self.table)

    @property
    def spec(self) -> EnvSpec:
        num_classes, dim = CLASSES, DIM
        if self.table != BLOBS:
            table = load_table(self.table)
            num_classes, dim = table.num_classes, table.features.shape[1]
        return EnvSpec(type(self).__name__, num_classes, (dim,), -1.0, 1.0, self.horizon)

    def sample_task(self, key: Array) -> ClassificationTask:
        if self.table == BLOBS:
            features, labels = _blobs(key)
        else:
            table = load_table(self.table)
            features, labels = jnp.asarray(table.features), jnp.asarray(table.labels)
        return ClassificationTask(features=features, labels=labels, max_steps_in_episode=self.horizon)

    def draw_context(self, key: Array, params: ClassificationTask) -> Array:
        """The number of a row, [] int32; N / 2^32 is how far from uniform it is, at most."""
        return (jax.random.bits(key, (), jnp.uint32) % params.labels.shape[0]).astype(jnp.int32)

    def observe(self, params: ClassificationTask, context: Array) -> Array:
        return params.features[context]

    def arm_means(self, params: ClassificationTask, context: Array) -> Array:
        return (jnp.arange(self.num_actions) == params.labels[context]).astype(jnp.float32)

    def draw_reward(self, key: Array, mean: Array) -> Array:
        del key
        return mean

    def optimal_return(self, params: ClassificationTask) -> Array:
        return jnp.float32(params.max_steps_in_episode)

    def constant_regret(self, params: ClassificationTask) -> Array:
        """Expected regret per pull of always pulling arm a, [K] float32; the least is that of the best constant arm."""
        return 1.0 - jnp.mean(params.labels[:, None] == jnp.arange(self.num_actions)[None], axis=0, dtype=jnp.float32)

    def validate_task(self, params: ClassificationTask) -> None:
        super().validate_task(params)
        labels = np.asarray(params.labels)
        is_class = np.issubdtype(labels.dtype, np.integer) and bool(np.all((labels >= 0) & (labels < self.num_actions)))
        require(is_class, "task.labels", labels.tolist(), f"integers in 0 .. {self.num_actions - 1}")


def _blobs(key: Array) -> tuple[Array, Array]:
    """A table of equally large Gaussian clouds with centres ~ N(0, I), as directions: (features [N, d], labels [N])."""
    key_centres, key_noise = jax.random.split(key)
    centres = jax.random.normal(key_centres, (CLASSES, DIM), jnp.float32)
    labels = jnp.arange(ROWS, dtype=jnp.int32) % CLASSES
    x = centres[labels] + SPREAD * jax.random.normal(key_noise, (ROWS, DIM), jnp.float32)
    return jnp.clip(x / jnp.linalg.norm(x, axis=1, keepdims=True), -1.0, 1.0), labels
