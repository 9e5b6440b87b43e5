"""The records, and the abstract bases of environments and agents; what policies are made of is in ``model_types``.

Letters used in shapes all over the package: T steps, K actions (arms), O the shape of one observation. Time is always
the leading axis; batches of tasks or seeds are added in front by ``jax.vmap``.

An action is a number, [] int32 in 0 .. K - 1, or in environments with a box of actions (``EnvSpec.action_box``) a
vector [A] float32. Where shapes say [] of an action, it has an axis [A] more there.
"""

import abc
import dataclasses
import math
from functools import partial
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.boxes import Box
from icrl.core.errors import InputError, require
from icrl.core.fields import Checked
from icrl.core.precision import in_32_bits
from icrl.core.scenes import Episode, Readings, Scene
from icrl.core.threefry import apart, split, stored

Array = jax.Array
Task = TypeVar("Task", bound="TaskParams")
AgentState = Any
Grid = tuple[dict[str, float], ...]  # settings of an agent by name, one dictionary a candidate
EnvState = Any


class Transition(NamedTuple):
    """One step of a rollout. Stacked over time it is a ``History``: every field gains a leading axis [T]."""

    obs: Array  # [*O] float32, seen before acting
    action: Array  # [] int32 in 0..K-1, or [A] float32 in a box
    reward: Array  # [] float32
    next_obs: Array  # [*O] float32, the true last observation, also at the end of an episode
    terminated: Array  # [] bool, the task itself ended the episode
    truncated: Array  # [] bool, the time limit ended the episode


History = Transition  # every field with a leading time axis [T]


class Contexts(NamedTuple):
    """A batch of pretraining contexts, with Q = 1 query for all prefixes or Q = T + 1, one for each."""

    history: History  # [B, T, ...]
    query: Array  # [B, Q, *O] float32, the observations to act upon
    label: Array  # [B, Q] int32, optimal actions at the queries; [B, Q, A] float32 in a box


class Curves(NamedTuple):
    """What is measured of a rollout, per step; [T] each."""

    reward: Array  # [T] float32, as received, with noise
    regret: Array  # [T] float32 >= 0, expected loss of the action against the optimal one (no noise)


class Interaction(NamedTuple):
    """The outcome of ``interact``: what happened, what it was worth, and the agent afterwards."""

    history: History  # [T, ...]
    curves: Curves  # [T]
    agent_state: AgentState
    env_states: EnvState  # [T, ...], those acted upon
    next_obs: Array  # [*O] float32, what the step after the last would see: of a new episode if the last one ended
    next_state: EnvState  # and the state it would act upon


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """The static facts an agent or a layout may know about an environment."""

    name: str
    num_actions: int  # K; 0 where actions are not numbered
    obs_shape: tuple[int, ...]
    obs_low: float
    obs_high: float
    max_steps_in_episode: int
    obs_nvec: tuple[int, ...] = ()  # each scalar of an observation is an integer in 0 .. n - 1; (): real numbers
    is_stationary_bandit: bool = False  # one observation and one optimal action all through a task
    exact_sampler: str = ""  # registered agent that samples from the exact posterior under the family's prior
    ends_early: bool = False  # whether an episode can end before its time limit
    observes_state: bool = (
        True  # whether, in a known task, an observation and the step decide the law of all that follows
    )
    exact_policy: str = ""  # registered agent that plays the Bayes-optimal policy, where the family is small enough
    action_box: Box | None = None  # of actions that are vectors of real numbers; None: they are numbered
    knows_optimum: bool = True  # whether optimal actions, regrets and returns can be computed; else they are NaN

    def __post_init__(self) -> None:
        one_kind = (self.num_actions == 0) == (self.action_box is not None)
        require(one_kind, "num_actions", self.num_actions, "0 with a box of actions, else 1 or more")

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Shape of an action: () or (A,)."""
        return () if self.action_box is None else (self.action_box.dim,)

    @property
    def num_states(self) -> int | None:
        """How many observations there are, or None when they are real numbers."""
        return math.prod(self.obs_nvec) if self.obs_nvec else None

    def state_index(self, obs: Array) -> Array:
        """The number of an observation [*O] among ``num_states``, row-major, [] int32."""
        index = jnp.int32(0)
        for value, count in zip(obs.reshape(-1), self.obs_nvec, strict=True):
            index = index * count + value.astype(jnp.int32)
        return index

    @property
    def obs_dim(self) -> int:
        """Number of scalars in one observation."""
        return math.prod(self.obs_shape)


@struct.dataclass
class TaskParams:
    """A task: what ``params`` is in gymnax. Array leaves differ between tasks; the episode length does not."""

    max_steps_in_episode: int = struct.field(pytree_node=False, default=1)


class Environment(Checked, abc.ABC, Generic[Task]):
    """A family of tasks in gymnax 1.x's calling convention; ``params`` is the task, so ``vmap`` over it is tasks.

    Subclasses are frozen dataclasses (settings as fields, validated on construction), which makes them static
    arguments of ``jit``. They implement ``spec``, ``sample_task``, ``reset_env``, ``step_env``, ``is_truncated`` and
    the oracles. No policy may read the oracle methods; ``interact`` uses them for the regret curve.
    """

    # Whether so few results need a step's draws that its keys are better made where they are used than put in memory.
    keys_in_place: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def spec(self) -> EnvSpec:
        """Static facts of the family."""

    @abc.abstractmethod
    def sample_task(self, key: Array) -> Task:
        """Draw one task from the family's prior."""

    @abc.abstractmethod
    def reset_env(self, key: Array, params: Task) -> tuple[Array, EnvState]:
        """Start an episode: (obs [*O], state)."""

    @abc.abstractmethod
    def step_env(
        self, key: Array, state: EnvState, action: Array, params: Task
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Array]]:
        """One step without auto-reset: (obs [*O], state, reward [], terminated [], info).

        An action outside of the box, where there is one, counts as the nearest one in it.
        """

    @abc.abstractmethod
    def is_truncated(self, state: EnvState, params: Task) -> Array:
        """Whether the time limit has been reached, [] bool."""

    @abc.abstractmethod
    def optimal_action(self, params: Task, state: EnvState) -> Array:
        """An action of the optimal policy of this task, [] int32."""

    @abc.abstractmethod
    def regret(self, params: Task, state: EnvState, action: Array) -> Array:
        """Expected loss of ``action`` against the optimal policy from ``state``, [] float32 >= 0."""

    @abc.abstractmethod
    def optimal_return(self, params: Task) -> Array:
        """Expected return of the optimal policy over one episode, [] float32."""

    def validate_task(self, params: Task) -> None:
        """Raise ``InputError`` on the host when ``params`` is not a task of this family (shape, range, NaN).

        Default: it is of the class and the shapes of one that is drawn, and its numbers are finite.
        """
        from icrl.core.tasks import require_like_drawn

        require_like_drawn(self, params)

    @property
    def num_tasks(self) -> int | None:
        """How many tasks a family that numbers them has; None for one that draws them."""
        return None

    def task(self, index: Array) -> Task:
        """Task number ``index`` [] int32 of a family that numbers its tasks; traceable."""
        raise InputError(f"env: got {self.name!r}, allowed: a family that numbers its tasks (task {index})")

    # What an agent may know of the family, where it is so: fields or properties of the same name say what.

    @property
    def noise_std(self) -> float | None:
        """Standard deviation of Gaussian reward noise; None: another noise, or none."""
        return None

    @property
    def r_max(self) -> float | None:
        """A bound on expected rewards; None: 1."""
        return None

    @property
    def reward_values(self) -> tuple[float, ...]:
        """The values that a reward can take, where they are few; (): any number."""
        return ()

    @property
    def prior_a(self) -> float | None:
        """First parameter of the Beta prior of arm means, as ``prior_b`` is the second; None: another prior."""
        return None

    @property
    def prior_b(self) -> float | None:
        """Second parameter of that prior."""
        return None

    @property
    def concentration(self) -> float | None:
        """Of the Dirichlet prior of a state's successors; None: another prior."""
        return None

    @property
    def features(self) -> Array | None:
        """Features of the arms that are the same in all tasks, [K, d]; None: there are none, or others each time."""
        return None

    @property
    def theta_length(self) -> float | None:
        """A bound on the length of the parameter of linear rewards; None: unknown, or they are not linear."""
        return None

    @property
    def dim(self) -> int:
        """d, of features that the observation shows arm by arm; 0: it shows none."""
        return 0

    @property
    def num_streams(self) -> int | None:
        """S, copies of the environment that act as one; None: one plain environment."""
        return None

    @property
    def is_recorded(self) -> bool:
        """Whether records are all there is of it, so that nobody can act in it."""
        return False

    @property
    def is_deterministic(self) -> bool:
        """Whether a task explains what it shows without chance; the family then has ``begin`` and ``advance``."""
        return False

    @property
    def pomdp(self) -> Any:
        """The tables of a finite POMDP, ``icrl.planning.pomdp.Tables``; None: it is none, or has no known tables."""
        return None

    def facts(self, *names: str) -> dict[str, Any]:
        """Those of the facts ``names`` that are known, by name."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def random_state(self, key: Array, params: Task) -> tuple[Array, EnvState]:
        """A state drawn uniformly from all of them, (obs [*O], state), for contexts of independent transitions."""
        raise InputError(f"{self.name}: has no uniform distribution over its states; use another kind of context")

    def scene(self, params: Task, state: EnvState, episode: Episode) -> Scene:
        """What there is to see, for pictures; on the host. Default: the numbers of the observation."""
        del params, state
        return Readings(np.asarray(episode.obs[-1], float).reshape(-1), self.spec.obs_low, self.spec.obs_high)

    @property
    def default_params(self) -> Task:
        """A fixed task of the family (gymnax's default)."""
        return self.sample_task(jax.random.key(0))

    @property
    def name(self) -> str:
        """Family name, gymnax's ``name``."""
        return self.spec.name

    @property
    def num_actions(self) -> int:
        """K; ``InputError`` where actions are not numbered."""
        if box := self.spec.action_box:
            allowed = "an environment with numbered actions, which this agent needs"
            raise InputError(f"env: got {self.name!r} with a box of {box.dim} numbers as action, allowed: {allowed}")
        return self.spec.num_actions

    def action_space(self, params: Task | None = None) -> Any:
        """Space of the actions in gymnax's form (imports gymnax, which is slow the first time)."""
        from gymnax.environments import spaces

        del params
        if box := self.spec.action_box:
            low, high = (jnp.array(bound, jnp.float32) for bound in (box.low, box.high))
            return spaces.Box(low, high, (box.dim,), jnp.float32)
        return spaces.Discrete(self.spec.num_actions)

    def observation_space(self, params: Task | None = None) -> Any:
        """Space of the observations in gymnax's form (imports gymnax, which is slow the first time)."""
        from gymnax.environments import spaces

        del params
        return spaces.Box(self.spec.obs_low, self.spec.obs_high, self.spec.obs_shape, jnp.float32)

    @partial(jax.jit, static_argnames=("self",))
    @in_32_bits
    def reset(self, key: Array, params: Task | None = None) -> tuple[Array, EnvState]:
        """Start an episode: (obs [*O], state)."""
        return self.reset_env(key, self.default_params if params is None else params)

    @partial(jax.jit, static_argnames=("self",))
    @in_32_bits
    def step(
        self, key: Array, state: EnvState, action: Array, params: Task | None = None
    ) -> tuple[Array, EnvState, Array, Array, Array, dict[str, Array]]:
        """One step with auto-reset: (obs, state, reward, terminated, truncated, info).

        After the last step of an episode ``obs`` and ``state`` are those of the next one and
        ``info["final_observation"]`` holds the true last observation.
        """
        params = self.default_params if params is None else params
        key_step, key_reset = apart(key) if self.keys_in_place else split(stored(key))
        final_obs, stepped, reward, terminated, info = self.step_env(key_step, state, action, params)
        truncated = self.is_truncated(stepped, params)
        fresh = self.reset_env(key_reset, params)
        over = terminated | truncated
        obs, state = jax.tree.map(lambda new, old: jax.lax.select(over, new, old), fresh, (final_obs, stepped))
        info = {**info, "terminated": terminated, "truncated": truncated, "final_observation": final_obs}
        return obs, state, reward, terminated, truncated, info


class Agent(Checked, abc.ABC):
    """A learner as three pure functions over an explicit state. Subclasses are ``icrl.core.struct`` dataclasses.

    Settings are fields: numbers that may be swept are leaves (so ``vmap`` runs over them), shapes are static. A leaf
    is a number or, for a sweep, an array of numbers, each of which is checked; a traced value is not.
    ``state`` is everything learned since the task began; it survives the ends of episodes.
    """

    sees_env_state = False  # True only for oracles: ``act`` then receives the environment's state as ``obs``
    needs_state = False  # True for planners: what they promise holds only where ``EnvSpec.observes_state``
    label: ClassVar[str] = ""  # what readers see, with settings in braces; "": the registered name and the settings
    grid: ClassVar[Grid] = ()  # what tuning tries besides the defaults: settings that are leaves, four candidates

    def __init_subclass__(cls, **settings: Any) -> None:
        """A class that says anew how it acts decides so, whatever its base worked out on the way."""
        super().__init_subclass__(**settings)
        if "act" in vars(cls) and "decide" not in vars(cls):
            cls.decide = Agent.decide  # type: ignore[method-assign]

    @property
    def capacity(self) -> int | None:
        """The most transitions that it can observe of one task; None for an agent that lives on for any time."""
        return None

    @classmethod
    @abc.abstractmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        """Build the agent for ``env``, reading what it may know (K, noise, prior, features); settings override."""

    @classmethod
    def candidates(cls, env: Environment) -> Grid:
        """What tuning tries in ``env`` besides the defaults: ``grid``, unless it takes the environment to say."""
        del env
        return cls.grid

    def for_task(self, params: TaskParams) -> Self:
        """Tell an oracle its task. Every other agent ignores it."""
        del params
        return self

    @abc.abstractmethod
    def init(self, key: Array) -> AgentState:
        """State of an agent that has seen nothing of its task."""

    @abc.abstractmethod
    def act(self, key: Array, state: AgentState, obs: Array) -> Array:
        """Choose an action, [] int32."""

    def decide(self, key: Array, state: AgentState, obs: Array) -> tuple[Array, AgentState]:
        """The action of ``act``, and the state for ``update``, which may hold what ``act`` has worked out for it.

        ``interact`` calls it, one ``update`` behind each. Such a state may have a form of its own. Default: ``state``.
        """
        return self.act(key, state, obs), state

    def act_greedy(self, key: Array, state: AgentState, obs: Array) -> Array:
        """The choice that only exploits (offline evaluation, ``deterministic=True``), [] int32. Default: ``act``."""
        return self.act(key, state, obs)

    @abc.abstractmethod
    def update(self, state: AgentState, transition: Transition) -> AgentState:
        """Learn from one transition."""
