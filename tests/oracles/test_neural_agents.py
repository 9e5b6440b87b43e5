"""The neural agents against float64 NumPy on the disjoint encoding, against exact probabilities, and on blobs.

Probabilities are gated at |z| <= 4.3 with 100 000 draws, gradients at central differences of the loss.
"""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents._neural_agent import NeuralState, Weights
from icrl.core.errors import InputError
from icrl.core.registry import agents, environments
from icrl.core.tasks import TaskSet
from icrl.core.types import Transition
from icrl.envs.classification_bandit import ClassificationBandit
from icrl.evaluation.online import Trial
from icrl.experiments.neural_bandits import LEARNERS, NeuralBandits, NeuralBanditSettings, constant_regret, gain_of

K, D, M = 3, 2, 4  # arms, scalars of a context, hidden units
DRAWS = 100_000


def build(name, **settings):
    return agents[name](num_arms=K, dim=D, width=M, **settings)


def transition(action, reward, obs=(0.6, -0.8)):
    obs = jnp.array(obs)
    return Transition(obs, jnp.int32(action), jnp.float32(reward), obs, jnp.bool_(False), jnp.bool_(False))


def disjoint(weights):
    """W [K, m, d] as the one matrix [m, Kd] of the disjoint encoding, and v, flat in float64."""
    hidden = np.asarray(weights.hidden, np.float64).transpose(1, 0, 2)
    return np.concatenate([hidden.ravel(), np.asarray(weights.output, np.float64)])


def outputs(theta, start, signs, scale, x, action):
    """f~_s for each row of signs [S, p]: the network on (0, .., x, .., 0), plus the perturbation."""
    encoded = np.zeros((K, D))
    encoded[action] = x
    hidden = np.maximum(theta[:-M].reshape(M, K * D) @ encoded.ravel(), 0.0)
    return theta[-M:] @ hidden + scale / M**0.25 * (signs @ (theta - start))


def loss_of(y, output, kl_loss):
    if not kl_loss:
        return np.mean((output - y) ** 2) / 2
    p = 1 / (1 + np.exp(-output))
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


def by_night(*values):
    return pytest.param(*values, marks=pytest.mark.nightly)


@pytest.mark.parametrize(
    ("name", "kl_loss", "num_perturbations"),
    [
        ("neu-square-cb", False, 3),
        ("neu-fast-cb", True, 0),
        by_night("neu-square-cb", False, 0),
        by_night("neu-fast-cb", True, 3),
    ],
)
def test_an_update_is_a_gradient_step(name, kl_loss, num_perturbations):
    agent = build(name, num_perturbations=num_perturbations, perturbation_scale=0.7, learning_rate=0.5)
    state, update = jax.jit(agent.init)(jax.random.key(1)), jax.jit(agent.update)
    for step in (transition(0, 1.0), transition(2, 0.0), transition(1, 1.0)):  # theta leaves theta_0
        state = update(state, step)
    theta, signs, start = disjoint(state.weights), np.zeros((1, K * M * D + M)), np.zeros(K * M * D + M)
    if num_perturbations:
        rows = [jax.tree.map(lambda leaf, s=s: leaf[s], state.perturbation.signs) for s in range(num_perturbations)]
        signs, start = np.stack([disjoint(row) for row in rows]), disjoint(state.perturbation.start)
        assert set(np.unique(signs)) == {-1.0, 1.0}
    x, y, action = np.array([0.28, 0.96]), 1.0, 1

    def output(theta):
        return outputs(theta, start, signs, 0.7, x, action)

    link = (lambda f: 1 / (1 + np.exp(-f))) if kl_loss else (lambda f: f)
    np.testing.assert_allclose(agent.losses(state, jnp.array(x))[action], link(output(theta)).mean(), atol=2e-6)
    shifts = 1e-6 * np.eye(theta.size)
    slope = np.array([loss_of(y, output(theta + e), kl_loss) - loss_of(y, output(theta - e), kl_loss) for e in shifts])
    after = disjoint(update(state, transition(action, 1.0 - y, x)).weights)
    assert np.abs(slope / 2e-6).max() > 0.1
    np.testing.assert_allclose(after, theta - 0.5 * slope / 2e-6, atol=5e-6)


def fixed_losses(agent, losses):
    """A state in which ``agent``, of width 1, predicts ``losses`` [K] before the link, in the context (1, 0)."""
    sign = -1.0 if min(losses) < 0 else 1.0
    hidden = jnp.zeros((K, 1, D)).at[:, 0, 0].set(sign * jnp.array(losses))
    return agent.replace(width=1), NeuralState(Weights(hidden, jnp.array([sign])))


def frequencies(agent, state):
    act = jax.jit(jax.vmap(lambda key: agent.act(key, state, jnp.array([1.0, 0.0]))))
    return np.bincount(act(jax.random.split(jax.random.key(0), DRAWS)), minlength=K) / DRAWS


def check_frequencies(found, wanted):
    wanted = np.asarray(wanted)
    assert np.isclose(wanted.sum(), 1.0)
    assert np.all(np.abs(found - wanted) <= 4.3 * np.sqrt(wanted * (1 - wanted) / DRAWS))


def test_inverse_gap_weighting_of_the_square_loss():
    agent, state = fixed_losses(build("neu-square-cb", gamma=20.0), [0.5, 0.1, 0.2])
    others = 1 / (3 + 20 * 0.4), 1 / (3 + 20 * 0.1)
    check_frequencies(frequencies(agent, state), [others[0], 1 - sum(others), others[1]])


def test_inverse_gap_weighting_of_the_kl_loss():
    agent, state = fixed_losses(build("neu-fast-cb", gamma=20.0), [-0.5, -2.0, -1.0])
    y = 1 / (1 + np.exp(np.array([0.5, 2.0, 1.0])))
    others = y[1] / (3 * y[1] + 20 * (y[0] - y[1])), y[1] / (3 * y[1] + 20 * (y[2] - y[1]))
    check_frequencies(frequencies(agent, state), [others[0], 1 - sum(others), others[1]])


def test_epsilon_is_the_rate_of_exploration():
    agent, state = fixed_losses(build("neural-epsilon", epsilon=0.3), [0.5, 0.1, 0.2])
    check_frequencies(frequencies(agent, state), [0.1, 0.8, 0.1])


def test_widths_are_those_of_the_diagonal_gram_matrix():
    agent = build("neural-ucb", lam=0.5, learning_rate=0.3)
    state, gram = jax.jit(agent.init)(jax.random.key(2)), np.full(K * M * D + M, 0.5)
    update = jax.jit(agent.update)

    def gradient(theta, x, action):
        encoded = np.zeros((K, D))
        encoded[action] = x
        units = theta[:-M].reshape(M, K * D) @ encoded.ravel()
        return np.concatenate([np.outer(theta[-M:] * (units > 0), encoded.ravel()).ravel(), np.maximum(units, 0)])

    rng = np.random.default_rng(0)
    for action in (0, 1, 1, 2, 0, 1):
        x = rng.normal(size=D)
        gram += gradient(disjoint(state.weights), x, action) ** 2
        state = update(state, transition(action, rng.integers(2), x))
    x = rng.normal(size=D)
    wanted = [np.sqrt(np.sum(gradient(disjoint(state.weights), x, a) ** 2 / gram)) for a in range(K)]
    assert max(wanted) > 0.1
    np.testing.assert_allclose(agent.widths(state, jnp.array(x)), wanted, rtol=1e-5)
    bonus = agent.replace(beta=2.0)
    index = np.asarray(agent.losses(state, jnp.array(x))) - 2.0 * np.array(wanted)
    assert bonus.act(jax.random.key(0), state, jnp.array(x)) == np.argmin(index)
    assert agent.replace(beta=0.0).act(jax.random.key(0), state, jnp.array(x)) == agent.act_greedy(None, state, x)


def test_thompson_draws_have_the_widths_as_deviations():
    """Arms 0 and 1 with losses .3 and .2 and deviations s_a = nu sqrt(lam) width; arm 2 is out of the question."""
    agent, state = fixed_losses(build("neural-ts", lam=4.0, nu=0.5), [0.3, 0.2, 30.0])
    inverse = Weights(jnp.full((K, 1, D), 0.25).at[:, 0, 0].set(jnp.array([0.04, 0.01, 0.01])), jnp.array([0.0]))
    spread = 0.5 * 2.0 * np.sqrt([0.04, 0.01])
    first = NormalDist().cdf(-0.1 / np.hypot(*spread))
    check_frequencies(frequencies(agent, state._replace(inverse=inverse))[:2], [first, 1 - first])


def test_agents_refuse_numbered_states_and_bad_shapes():
    with pytest.raises(InputError, match=r"environment RiverSwim: got 'numbered states', .* NeuralUCB needs them"):
        agents["neural-ucb"].for_env(environments["RiverSwim-v0"]())
    for field, value in (("width", 0), ("width", 2.5), ("num_perturbations", -1)):
        with pytest.raises(InputError, match=f"^{field}: got"):
            agents["neural-ts"].for_env(ClassificationBandit(), **{field: value})


DAY = ("neu-fast-cb", "neural-ucb")


@pytest.mark.parametrize("name", [name if name in DAY else by_night(name) for name in LEARNERS])
def test_every_learner_learns_blobs(name):
    """Eight tables, T = 600: below a third of the best constant arm (measured: a ninth to a seventeenth)."""
    env, settings = ClassificationBandit(horizon=600), {"learning_rate": 0.5}
    lives = TaskSet.draw(env, 0, "blobs", 8)
    regret = Trial(env, lives, env.horizon, 0).regret(agents[name].for_env(env, **settings))
    assert gain_of({"best-constant": constant_regret(env, lives), name: regret}, name).mean >= 3.0


def test_other_learners_are_refused():
    with pytest.raises(InputError, match="learners: got"):
        NeuralBanditSettings(env=ClassificationBandit(), learners=("ucb",))


@pytest.mark.nightly
@pytest.mark.parametrize("name", LEARNERS)
def test_digits(name):
    """T = 10 000, ten lives: a fifth of the best constant arm (Deb et al.'s protocol; no order is asserted)."""
    pytest.importorskip("sklearn")
    settings = NeuralBandits.presets["cpu"]
    lives = TaskSet.draw(settings.env, 1, "digits", 10)
    agent = agents[name].for_env(settings.env, learning_rate=0.2, **settings.networks)
    regret = Trial(settings.env, lives, 10_000, 1).regret(agent)
    constant = constant_regret(settings.env, lives)
    assert round(constant[0, -1]) == 8982
    assert gain_of({"best-constant": constant, name: regret}, name).mean >= 5.0
