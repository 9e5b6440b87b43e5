"""Exact imitation of noise-annealed play: what algorithm distillation of such histories comes to without any error."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from icrl.agents._clock import next_step
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import categorical
from icrl.core.types import Agent, Array, Environment, Transition

EPISODES, IN_WINDOW = 40, 2  # of a history and of a window, unless told otherwise
MOST = 2**24  # numbers in a memory


class ImitatorState(NamedTuple):
    """How well each task and each place in the source's history explain the window."""

    log_likelihood: Array  # [E, N, P] float32, of the latest transitions from the window's e-th episode on
    states: Any  # environment states [N, ...], one under each task
    episode: Array  # [] int32 in 0 .. E - 1, whole episodes in the window
    step: Array  # [] int32 in 0 .. H - 1, steps done in the episode under way


@agents.register("exact-imitator", paper="Laskin et al. 2022")
@struct.dataclass
class ExactImitator(Agent):
    """Plays p(a_t | window) under histories of ``annealed-oracle``: the minimiser of Laskin et al.'s loss, eq. 4.

    A training window begins with one of the episodes 0 .. P - 1 of a history of ``history_steps`` transitions, each as
    likely, in a uniformly drawn task. At the source's step t its action is the optimal one with probability 1 - eps_t,
    else uniform; eps_t falls as ``annealed-oracle`` says. The likelihood of a task and of a beginning is the product of
    these laws over the window, 0 for a task that does not explain what was seen; the action is drawn from the law that
    the posterior over both gives to the next one. No model that is trained on such windows has a lower expected loss.

    The window moves as in ``rolling-context`` with an episode forgotten at a time: with E = ``window`` / H episodes it
    holds the latest E - 1 whole ones and that under way, and counts as if it had begun with the first of them.

    Needs a family of numbered, deterministic tasks whose episodes last H steps. A memory has E N P numbers, P
    beginnings but for those behind the fall, which are alike (2 x 6 561 x 39 in ``DarkKeyToDoor-v0``); each of them
    changes at every step, a millisecond on a CPU.
    """

    env: Any = struct.field(pytree_node=False)
    history_steps: int = setting(2000, low=1, high=2**24, static=True, help="transitions in a history of the source")
    window: int = setting(100, low=1, high=2**24, static=True, help="W, transitions in a window")
    anneal_steps: float = setting(
        2000, low=0.0, open_low=True, static=True, help="transitions in which the source's epsilon falls"
    )
    final_epsilon: float = setting(0.0, low=0.0, high=1.0, help="epsilon after that")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.env, Environment), "env", self.env, "an Environment")
        require(
            self.window <= self.history_steps, "window", self.window, f"at most history_steps, {self.history_steps}"
        )
        whole = self.window % self.horizon == 0
        require(whole, "window", self.window, f"whole episodes, a multiple of {self.horizon}")
        size = self.window // self.horizon * self.env.num_tasks * len(self.phases[0])
        hint = f"the memory of such windows has {size:,} numbers in {self.env.name}"
        require(size <= MOST, "history_steps", self.history_steps, f"a length with at most {MOST:,} numbers", hint)

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        numbered = env.num_tasks is not None and env.is_deterministic and not env.spec.ends_early
        allowed = "one that is_deterministic and never ends_early, with num_tasks, task, begin and advance"
        require(numbered, "env", env.name, allowed, "this agent needs to count the tasks that explain what it saw")
        horizon = env.spec.max_steps_in_episode
        known = {"history_steps": EPISODES * horizon, "window": IN_WINDOW * horizon}
        steps = settings.get("history_steps", known["history_steps"])
        return cls(**{"env": env, **known, "anneal_steps": steps, **settings})

    @property
    def horizon(self) -> int:
        """H."""
        return int(self.env.spec.max_steps_in_episode)

    @property
    def phases(self) -> tuple[np.ndarray, np.ndarray]:
        """The source's steps at which a window can begin, and their probabilities, [P] float32 each.

        Those behind ``anneal_steps`` are one, as they are all alike.
        """
        starts = np.arange(0, self.history_steps - self.window + 1, self.horizon)
        steps, counts = np.unique(np.minimum(starts, self.anneal_steps), return_counts=True)
        return steps.astype(np.float32), (counts / len(starts)).astype(np.float32)

    def init(self, key: Array) -> ImitatorState:
        del key
        shape = (self.window // self.horizon, self.env.num_tasks, len(self.phases[0]))
        begun = self._begin(jnp.zeros(2, jnp.float32))
        return ImitatorState(jnp.zeros(shape, jnp.float32), begun, jnp.int32(0), jnp.int32(0))

    def act(self, key: Array, state: ImitatorState, obs: Array) -> Array:
        return categorical(key, jnp.log(self.action_probs(state, obs)))

    def act_greedy(self, key: Array, state: ImitatorState, obs: Array) -> Array:
        """The most likely action, the first on ties."""
        del key
        return jnp.argmax(self.action_probs(state, obs)).astype(jnp.int32)

    def action_probs(self, state: ImitatorState, obs: Array) -> Array:
        """The source's next action given the window, [K]: the law of ``act``."""
        log = state.log_likelihood[0]
        posterior = self.phases[1][None] * jnp.exp(log - jnp.max(log))  # [N, P]
        posterior = posterior / jnp.sum(posterior)
        epsilon = self._epsilon(state)[0]
        optimal = jax.nn.one_hot(self._optimal(self._states(state, obs)), self.env.num_actions, dtype=jnp.float32)
        return (posterior @ (1.0 - epsilon)) @ optimal + jnp.sum(posterior @ epsilon) / self.env.num_actions

    def update(self, state: ImitatorState, transition: Transition) -> ImitatorState:
        before = self._states(state, transition.obs)
        after, reward = jax.vmap(self.env.advance, in_axes=(0, 0, None))(self._tasks(), before, transition.action)
        explains = (reward == transition.reward) & jnp.all(after.position == transition.next_obs[None], axis=-1)
        follows = self._optimal(before) == transition.action
        other = self._epsilon(state) / self.env.num_actions  # [E, P], as is the probability of the optimal action
        same = 1.0 - other * (self.env.num_actions - 1)
        begun = (jnp.arange(other.shape[0]) <= state.episode)[:, None]
        # logarithms of E P numbers, not of E N P
        same, other = (jnp.where(begun, jnp.log(prob), 0.0)[:, None] for prob in (same, other))
        log = state.log_likelihood + jnp.where(follows[None, :, None], same, other)
        log = jnp.where(begun[:, None] & ~explains[None, :, None], -jnp.inf, log)
        log = jnp.where(jnp.any(jnp.isfinite(log[0])), log, 0.0)  # nothing explains the window: it begins again
        step, over = next_step(self.horizon, state.step, transition)
        return self._forget(ImitatorState(log, after, state.episode, step), over)

    def _forget(self, state: ImitatorState, over: Array) -> ImitatorState:
        """As an episode is ``over``: one more in the window, or the oldest leaves it."""
        log, last = state.log_likelihood, state.log_likelihood.shape[0] - 1
        moved = jnp.concatenate([log[1:], jnp.zeros_like(log[:1])])
        log = jnp.where(over & (state.episode == last), moved, log)
        return state._replace(log_likelihood=log, episode=jnp.minimum(state.episode + over, last))

    def _epsilon(self, state: ImitatorState) -> Array:
        """The source's epsilon now, if the window's e-th episode began at a phase, [E, P]."""
        since = (state.episode - jnp.arange(state.log_likelihood.shape[0])) * self.horizon + state.step
        progress = jnp.clip((self.phases[0][None] + since[:, None]) / self.anneal_steps, 0.0, 1.0)
        return 1.0 + progress * (self.final_epsilon - 1.0)

    def _tasks(self) -> Any:
        return jax.vmap(self.env.task)(jnp.arange(self.env.num_tasks))

    def _optimal(self, states: Any) -> Array:
        """Optimal actions under each task, [N] int32."""
        return jax.vmap(self.env.optimal_action)(self._tasks(), states)

    def _states(self, state: ImitatorState, obs: Array) -> Any:
        """States [N, ...] under each task, those of a new episode at its first step."""
        first = state.step == 0
        return jax.tree.map(lambda new, old: jnp.where(first, new, old), self._begin(obs), state.states)

    def _begin(self, obs: Array) -> Any:
        begun = self.env.begin(obs.astype(jnp.int32))
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.env.num_tasks, *leaf.shape)), begun)
