"""The only environment loop: one agent, one task, one ``scan`` over steps. Callers ``vmap`` it over tasks and seeds.

Common random numbers: step t of the environment uses ``fold_in(key_env, t)`` whatever the agent does, so competitors
given the same key meet the same reward noise, and the first T steps of a longer life are the same life.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icrl.core.precision import exact_products, in_32_bits
from icrl.core.threefry import fold_in, stored
from icrl.core.types import (
    Agent,
    AgentState,
    Array,
    Curves,
    Environment,
    EnvState,
    History,
    Interaction,
    TaskParams,
    Transition,
)


class Meeting(NamedTuple):
    """An agent and an environment between two steps."""

    agent_state: AgentState
    env_state: EnvState
    obs: Array  # [*O] float32, to be acted upon


def first_meeting(key: Array, env: Environment, task: TaskParams, agent: Agent) -> Meeting:
    """An agent that knows nothing of its task, in front of the first episode; ``key`` is consumed."""
    key_init, key_reset = jax.random.split(key)
    obs, env_state = env.reset(key_reset, task)
    return Meeting(agent.for_task(task).init(key_init), env_state, obs)


@in_32_bits
@exact_products
def interact(
    key: Array,
    env: Environment,
    task: TaskParams,
    agent: Agent,
    num_steps: int,
    agent_key: Array | None = None,
    start: Meeting | None = None,
) -> Interaction:
    """Run ``agent`` for ``num_steps`` steps in one task. Episodes auto-reset; the agent's state is kept across them.

    Args:
      key: typed key of the environment's draws (and of the agent's, unless ``agent_key`` is given); consumed.
      task: one task of ``env`` (no batch axis).
      num_steps: T, static.
      agent_key: typed key of the agent's own draws, to vary the agent on fixed environment draws.
      start: where to go on from; None: the agent knows nothing, and an episode begins.

    Returns:
      History [T, ...], reward and regret curves [T], the agent's last state, the environment's states [T, ...], and the
      observation and state that come next.
      What a jitted caller does not use of these is never computed.
    """
    key_env, key_agent = jax.random.split(key)
    key_agent = key_agent if agent_key is None else agent_key
    key_reset, key_steps = jax.random.split(key_env)
    key_init, key_acts = jax.random.split(key_agent)
    agent = agent.for_task(task)
    if start is None:
        obs, env_state = env.reset(key_reset, task)
        start = Meeting(agent.init(key_init), env_state, obs)

    def one_step(carry: tuple[Any, ...], t: Array) -> tuple[tuple[Any, ...], tuple[Transition, Curves, EnvState]]:
        agent_state, env_state, obs = carry
        seen = env_state if agent.sees_env_state else obs
        action, agent_state = agent.decide(stored(fold_in(key_acts, t)), agent_state, seen)
        regret = env.regret(task, env_state, action)
        key_step = fold_in(key_steps, t)
        next_obs, next_state, reward, terminated, truncated, info = env.step(key_step, env_state, action, task)
        transition = Transition(obs, action, reward, info["final_observation"], terminated, truncated)
        agent_state = agent.update(agent_state, transition)
        return (agent_state, next_state, next_obs), (transition, Curves(reward, regret), env_state)

    times = jnp.arange(num_steps, dtype=jnp.uint32)
    (agent_state, next_state, next_obs), (history, curves, states) = jax.lax.scan(one_step, tuple(start), times)
    return Interaction(history, curves, agent_state, states, next_obs, next_state)


@in_32_bits
@exact_products
def replay(key: Array, agent: Agent, history: History, next_obs: Array | None = None) -> tuple[Array, AgentState]:
    """Show ``agent`` a recorded history and ask for its greedy choice before each step and after the last.

    Args:
      key: typed key of the agent's draws; consumed.
      history: [T, ...], from any source.
      next_obs: [*O] the observation after it, of a new episode if its last one ended; None: its last ``next_obs``.

    Returns:
      actions [T + 1], the t-th chosen after t transitions at the observation that comes next, and the state.
    """
    key_init, key_acts = jax.random.split(key)

    def one_step(state: AgentState, step: tuple[Array, Transition]) -> tuple[AgentState, Array]:
        t, transition = step
        action = agent.act_greedy(stored(fold_in(key_acts, t)), state, transition.obs)
        return agent.update(state, transition), action

    num_steps = history.action.shape[0]
    steps = (jnp.arange(num_steps, dtype=jnp.uint32), history)
    state, actions = jax.lax.scan(one_step, agent.init(key_init), steps)
    next_obs = history.next_obs[-1] if next_obs is None else next_obs
    last = agent.act_greedy(fold_in(key_acts, num_steps), state, next_obs)
    return jnp.append(actions, last[None], axis=0), state
