"""Planning in context (Son et al. 2025): a pretrained model searches the outcomes that it foretells itself."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from icrl.agents._clock import next_step
from icrl.agents._model_agent import require_trained
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import required, setting
from icrl.core.model_types import Layout
from icrl.core.registry import agents
from icrl.core.threefry import gumbel
from icrl.core.types import Agent, Array, Environment, Transition
from icrl.models._dynamics import Dynamics
from icrl.models._futures import Read, futures
from icrl.models.layers.cached_attention import furthest

PAPER, CODE = "paper", "code"
REWARDS, RETURN = "rewards", "return"
RULES, SCORES = (PAPER, CODE), (REWARDS, RETURN)


class PlanningState(NamedTuple):
    """What the reader remembers, and when it is."""

    reader: Any  # the reader's state
    steps: Array  # [] int32, transitions seen of the task, counted up to ``after``
    clock: Array  # [] int32 in 0 .. H - 1, steps done in the episode


class Beam(NamedTuple):
    """One foretold path; several have a leading axis."""

    branch: Any  # the model's memory of it
    last: Transition  # its last transition, of which the model has read all but the outcome
    first: Array  # [] int32, the action it begins with
    total: Array  # [] float32, rewards on it; -inf where there is no path
    score: Array  # [] float32, what it is ranked by


@agents.register("planning", paper="Son et al. 2025, algorithm 1 and its released code")
@struct.dataclass
class PlanningAgent(Agent):
    """Beam search in context: the first action of the path that promises most.

    The ``reader`` acts, alone, until it has seen ``after`` transitions (Son et al.: a full context). From then on its
    model foretells, behind what it remembers, the outcome of L actions for each of K paths, and the best K of them go
    on; d levels deep, or to the end of the episode, which is known. Outcomes are the most likely ones. Ties are
    frequent with rewards of few values; the sort is stable, so they fall to the path that stood in front.

    Two ``rule`` s tell L actions and their order. "paper": a sample of L different actions from the policy at every
    level, in the order in which they are drawn, which is that of its preference; "code", as released: such a sample at
    the first level, all actions in the order of their numbers below. The first action drawn is the one that the reader
    alone would play with the same key: where nothing is foretold both play alike.

    Paths are ranked by the ``score``: "rewards" foretold on it (both of theirs, on grids), or "return", the rewards but
    the last and the return-to-go foretold there.

    A level costs a token for every path and one for each of its actions, two with layout ``interleaved``; caches of
    attention are not copied (``models/_futures.py``).
    """

    reader: Any  # the agent that reads the context: in-context or rolling-context
    dynamics: Dynamics = struct.field(pytree_node=False)
    episode_steps: int = required(low=1, high=2**24, static=True, help="H, steps in an episode at most")
    after: int = required(low=0, high=2**30, static=True, help="transitions of context from which on it plans")
    horizon: int = setting(8, low=1, high=1024, static=True, help="d, levels of a plan at most")
    beam: int = setting(10, low=1, high=4096, static=True, help="K, paths that go on at each level")
    samples: int | None = setting(None, low=1, high=4096, static=True, help="L, actions tried; none: all")
    rule: str = setting(PAPER, choices=RULES, static=True, help="which actions are tried, and in which order")
    score: str = setting(REWARDS, choices=SCORES, static=True, help="what paths are ranked by")

    def __post_init__(self) -> None:
        super().__post_init__()
        reads = hasattr(self.reader, "memory")
        require(
            reads, "reader", type(self.reader).__name__, "an agent whose context grows: in-context, rolling-context"
        )
        named = type(self.layout).__name__
        require(self.layout.action_token is not None, "layout", named, "one with an action token, such as outcomes")
        most, context = self.layout.num_actions, self.reader.max_steps
        require(
            self.samples is None or self.samples <= most, "samples", self.samples, f"at most {most} actions, or none"
        )
        require(self.horizon <= context, "horizon", self.horizon, f"at most the {context} transitions of the context")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        require_trained(cls, settings)
        return cls(**settings)

    @property
    def layout(self) -> Layout:
        """That of the reader."""
        made: Layout = self.reader.layout
        return made

    @property
    def capacity(self) -> int | None:
        made: int | None = self.reader.capacity
        return made

    def init(self, key: Array) -> PlanningState:
        return PlanningState(self.reader.init(key), jnp.int32(0), jnp.int32(0))

    def update(self, state: PlanningState, transition: Transition) -> PlanningState:
        clock, _ = next_step(self.episode_steps, state.clock, transition)
        steps = jnp.minimum(state.steps + 1, self.after)
        return PlanningState(self.reader.update(state.reader, transition), steps, clock)

    def act(self, key: Array, state: PlanningState, obs: Array) -> Array:
        """The first action of the best path; the actions tried are drawn from the policy."""
        return self._acted(self.reader.act(key, state.reader, obs), key, state, obs)

    def decide(self, key: Array, state: PlanningState, obs: Array) -> tuple[Array, PlanningState]:
        plain, reader = self.reader.decide(key, state.reader, obs)
        return self._acted(plain, key, state, obs), state._replace(reader=reader)

    def act_greedy(self, key: Array, state: PlanningState, obs: Array) -> Array:
        """The same with the policy's likeliest actions, in the order of their probability."""
        return self._acted(self.reader.act_greedy(key, state.reader, obs), None, state, obs)

    def _acted(self, plain: Array, key: Array | None, state: PlanningState, obs: Array) -> Array:
        """``plain``, or what is planned once the context allows it; side by side no task plans before one may."""
        may = furthest(state.steps) >= self.after
        planned = jax.lax.cond(may, lambda: self._planned(key, state, obs), lambda: plain)
        return jnp.where((state.steps >= self.after) & (plain >= 0), planned, plain)

    def _planned(self, key: Array | None, state: PlanningState, obs: Array) -> Array:
        """The first action of the best path, [] int32."""
        memory, layout = self.reader.memory(state.reader), self.layout
        read, branch = futures(self.reader.policy, memory.carry, self.horizon * (layout.num_before + layout.num_after))
        past = layout.no_past() if memory.past is None else memory.past
        whole = Beam(branch, past._replace(next_obs=obs), jnp.int32(-1), jnp.float32(0.0), jnp.float32(0.0))
        count = self.samples or layout.num_actions
        children = self._children(read, whole, layout.before(obs, past), self._noise(key, 1)[0], count, True)
        beams = _best(children, self.beam)
        depth = jnp.minimum(self.horizon, self.episode_steps - state.clock)
        drawn = self.rule == PAPER
        count = count if drawn else layout.num_actions

        def deeper(level: Array, beams: Beam) -> Beam:
            def expanded(beam: Beam, noise: Array) -> Beam:
                return self._children(read, beam, self._told(beam), noise, count, drawn)

            noise = self._noise(None if key is None else jax.random.fold_in(key, level), self.beam)
            found = jax.vmap(expanded)(beams, noise)
            best = _best(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found), self.beam)
            return jax.tree.map(lambda new, old: jnp.where(level < depth, new, old), best, beams)

        return jax.lax.fori_loop(1, furthest(depth), deeper, beams).first[0]

    def _noise(self, key: Array | None, paths: int) -> Array:
        """What, added to the logits of each path, orders its actions as a sample would be drawn (Gumbel), [paths, K].

        Of the first path it is what ``threefry.categorical`` adds with the same key. Without a key: zeros.
        """
        shape = (paths, self.layout.num_actions)
        return jnp.zeros(shape, jnp.float32) if key is None else gumbel(key, shape)

    def _told(self, beam: Beam) -> Array:
        """Tokens of what followed the path's last action, and of the observation to be acted upon now."""
        assert self.layout.action_token is not None
        outcome = self.layout.after(beam.last)[self.layout.action_token + 1 :]
        return jnp.concatenate([outcome, self.layout.before(beam.last.next_obs, beam.last)])

    def _children(self, read: Read, beam: Beam, tokens: Array, noise: Array, count: int, drawn: bool) -> Beam:
        """The path with one action more, ``count`` of them [count, ...] in their order."""
        layout, no = self.layout, jnp.bool_(False)
        assert layout.action_token is not None
        told = slice(0, layout.action_token + 1)
        outputs, branch = read(tokens, beam.branch)
        preference = outputs[-1, : layout.num_outputs] + noise
        order = jnp.argsort(-preference, stable=True) if drawn else jnp.arange(layout.num_actions)

        def child(action: Array) -> Beam:
            obs, nothing = beam.last.next_obs, jnp.float32(0.0)
            step = Transition(obs, action, nothing, jnp.zeros_like(obs), no, no)
            outputs, after = read(layout.after(step)[told], branch)
            foretold = self.dynamics.predicted(outputs[-1, layout.num_outputs :])
            step = step._replace(reward=foretold.reward, next_obs=foretold.next_obs)
            gain = foretold.returns if self.score == RETURN else foretold.reward
            first = jnp.where(beam.first < 0, action, beam.first)
            return Beam(after, step, first, beam.total + foretold.reward, beam.total + gain)

        return jax.vmap(child)(order[:count].astype(jnp.int32))


def _best(paths: Beam, count: int) -> Beam:
    """The ``count`` paths of the highest scores, ties in their order; where there are fewer, the others are none."""
    found = paths.score.shape[0]
    order = jnp.argsort(-paths.score, stable=True)[jnp.minimum(jnp.arange(count), found - 1)]
    chosen: Beam = jax.tree.map(lambda leaf: leaf[order], paths)
    none = jnp.arange(count) >= found
    return chosen._replace(total=jnp.where(none, -jnp.inf, chosen.total), score=jnp.where(none, -jnp.inf, chosen.score))
