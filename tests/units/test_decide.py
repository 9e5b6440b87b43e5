"""What the loop asks of an agent: ``decide``, which is ``act`` unless a class hands over what it has read."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icrl.agents.in_context import DecidedState, InContextAgent
from icrl.agents.rolling_context import RollingContextAgent
from icrl.core import struct
from icrl.core.interact import interact
from icrl.core.registry import layouts
from icrl.envs.dark_room import DarkRoom
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.models.transformer import Transformer, TransformerConfig

ENV, STEPS = DarkRoom(size=3, horizon=4), 10
LAYOUT = layouts["pairs"](ENV.spec)
CALLS = []  # tokens of each call of the policy that is traced


class Counted(TokenPolicy):
    def __call__(self, tokens, start=None, carry=None):
        CALLS.append(len(tokens))
        return super().__call__(tokens, start, carry)


def agent_of(cls, **settings):
    config = TransformerConfig(width=8, num_layers=1, num_heads=1, init_std=0.3)
    backbone = Transformer(config, LAYOUT.num_tokens(STEPS), nnx.Rngs(0))
    policy = Policy.split(Counted(LAYOUT.token_dim, LAYOUT.num_outputs, backbone, 0.3, nnx.Rngs(1)))
    return cls(policy=policy, query=jnp.zeros(2), layout=LAYOUT, max_steps=STEPS, **settings)


def lived(agent):
    return interact(jax.random.key(1), ENV, ENV.sample_task(jax.random.key(0)), agent, STEPS)


@struct.dataclass
class AlwaysStays(InContextAgent):
    """One that acts in a way of its own."""

    def act(self, key, state, obs):
        return jnp.int32(4)


def test_a_step_is_one_call_of_the_model_that_reads_nothing_twice():
    """What happened (one token) and the observation that follows (one more)."""
    CALLS.clear()
    state = jax.eval_shape(lambda: lived(agent_of(InContextAgent)).agent_state)
    assert CALLS == [2] and state.past.obs.shape == (2,)


def test_a_class_that_acts_in_a_way_of_its_own_is_asked():
    assert "decide" in vars(InContextAgent) and (np.asarray(lived(agent_of(AlwaysStays)).history.action) == 4).all()


def test_what_is_handed_over_has_a_form_of_its_own_until_update():
    for agent in (agent_of(InContextAgent), agent_of(RollingContextAgent, forget=2)):
        before = agent.init(jax.random.key(0))
        decided = agent.decide(jax.random.key(2), before, jnp.zeros(2))[1]
        memory = decided if isinstance(agent, InContextAgent) else decided.memory
        assert isinstance(memory, DecidedState)
