"""T2MIR's experiment: which parameters are counted, the dense twins, the differences, whose sequences are shown."""

import jax
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.registry import models
from icrl.core.settings import replaced
from icrl.evaluation.experts import routing
from icrl.evaluation.statistics import paired_difference
from icrl.experiments.t2mir import MIXTURE, T2MIR, TWINS, differences, parameters
from icrl.models._sizes import ACTIVE, TOTAL, dense_twin, size_of
from icrl.models.layers.feed_forward import FeedForwardConfig
from icrl.recipes.data import RunData, collect_histories

SMOKE = T2MIR.presets["smoke"]
ACTIVE_TWIN, TOTAL_TWIN = TWINS


def of_experts(width, ratio, served, count, out):
    """Two-layer MLPs width -> ratio * width -> out with biases, ``served`` of ``count``, and their router."""
    hidden = ratio * width
    one = width * hidden + hidden + hidden * out + out
    router = width * count + count * count
    return router + served * one, router + count * one


def by_hand(config, token_dim, outputs, capacity):
    """(active, total) of the whole network: embedding, blocks, positions, last norm, head."""
    D, L, moe = config.width, config.num_layers, config.mixture
    token = of_experts(D, moe.expert_ratio, moe.top_experts, moe.token_experts, D // 2)
    task = of_experts(D, moe.expert_ratio, moe.top_experts, moe.task_experts, D - D // 2)
    attention, norms = 4 * (D * D + D), 2 * 2 * D
    dense = 2 * D * config.hidden(0) + config.hidden(0) + D
    plain = L * (attention + norms) + (L - 1) * dense + capacity * D + 2 * D
    ends = token_dim * D + D + D * outputs + outputs
    for_training = D * moe.token_experts + moe.task_experts**2
    return plain + ends + token[0] + task[0], plain + ends + token[1] + task[1] + for_training


def shapes_of(recipe):
    """The policy without its numbers: to draw them is most of what counting takes."""
    return jax.eval_shape(lambda: recipe.new_policy(0, 0))


@pytest.mark.parametrize("changes", [{}, {"width": 10, "num_layers": 3, "token_experts": 3, "expert_ratio": 3}])
def test_parameters_are_those_of_a_formula_and_the_twins_have_as_many(changes):
    variants = T2MIR.variants(replaced(SMOKE, changes | ({"num_heads": 2} if changes else {})))
    policies = {name: shapes_of(recipe) for name, recipe in variants.items()}
    recipe = variants[MIXTURE]
    active, total = by_hand(recipe.backbone, recipe.layout.token_dim, recipe.objective().num_outputs, recipe.num_tokens)
    assert (policies[MIXTURE].num_active_parameters, policies[MIXTURE].num_parameters) == (active, total)
    half_a_unit = recipe.backbone.width + 0.5
    for name, wanted in ((ACTIVE_TWIN, active), (TOTAL_TWIN, total)):
        policy = policies[name]
        assert policy.num_active_parameters == policy.num_parameters
        assert abs(policy.num_parameters - wanted) <= half_a_unit
    table = parameters(SMOKE, None, {name: (variants[name], [policies[name]]) for name in variants}, {})
    assert table["rows"][0] == [MIXTURE, active, total]


def test_every_preset_has_its_twins_within_a_hundredth():
    for preset in ("smoke", "cpu", "paper"):
        mixture, *twins = T2MIR.variants(T2MIR.presets[preset]).values()
        config, tokens = mixture.backbone, mixture.num_tokens
        total = size_of("transformer", config, tokens).parameters
        of_twins = [size_of("transformer", twin.backbone, tokens).parameters for twin in twins]
        assert of_twins[1] == pytest.approx(total, rel=0.01)
        assert of_twins[0] < 0.8 * total
        assert all(twin.data == mixture.data and twin.fit == mixture.fit for twin in twins)


@pytest.mark.parametrize("mlp", ["swiglu", "leaky-relu"])
@pytest.mark.parametrize("name, block", [("s5", "glu"), ("gru", "mlp")])
def test_a_twin_of_any_model_has_as_many(name, block, mlp):
    config = replaced(models[name].Config(width=12, block=block, mlp=mlp), {"moe": "task", "moe_layers": 2})
    wanted, found = (size_of(name, each).parameters for each in (config, dense_twin(config, TOTAL)))
    assert abs(wanted - found) <= 2 * 3 * 12  # two layers, half a unit of three matrices and a bias each
    assert size_of(name, dense_twin(config, ACTIVE)).parameters < found


def test_only_the_last_layers_have_a_width_of_their_own():
    config = FeedForwardConfig(width=8, num_layers=3, mlp_ratio=2.0, last_mlp_ratio=5.0)
    assert [config.hidden(layer) for layer in range(3)] == [16, 16, 40]
    assert replaced(config, {"moe_layers": 2}).hidden(1) == 40
    with pytest.raises(InputError, match=r"last_mlp_ratio: got 5\.0, allowed: none where experts are"):
        replaced(config, {"moe": "token"})


def test_twins_follow_what_is_varied_and_need_a_mixture():
    variants = T2MIR.variants(replaced(SMOKE, {"vary": ("moe=token,token-task",)}))
    assert len(variants) == 6
    assert [name for name in variants if name.startswith(MIXTURE)] == [
        "mixture of experts, moe token",
        "mixture of experts, moe token-task",
    ]
    with pytest.raises(InputError, match="moe: got 'none', allowed: token, task or token-task"):
        T2MIR.variants(replaced(SMOKE, {"moe": "none"}))


def test_differences_are_paired_by_task_and_seed():
    names, draws = [MIXTURE, *TWINS], np.random.default_rng(0)
    recipe = replaced(SMOKE, {"eval_steps": 50})  # ten episodes of five steps
    measured = {name: {"reward": draws.normal(size=(2, 10, 50))} for name in names}
    returns = {name: measured[name]["reward"].reshape(2, 10, 10, 5).sum(-1) for name in names}
    table = differences(recipe, None, dict.fromkeys(names), measured)
    for (_, *found), twin in zip(table["rows"], TWINS, strict=True):
        apart = returns[MIXTURE] - returns[twin]
        for cell, part in zip(found, (apart, apart[..., :2], apart[..., -2:]), strict=True):
            expected = paired_difference(part.mean(-1), np.zeros((2, 10))).band()
            assert {end: float(value) for end, value in cell.items()} == pytest.approx(
                {end: float(value) for end, value in expected.items()}
            )


def test_the_router_is_shown_two_sequences_of_each_task(tmp_path):
    recipe = replaced(SMOKE, {"train_tasks": 3, "num_layers": 1})
    collect_histories(recipe, tmp_path, 0)
    data, policy = RunData(tmp_path, 0), recipe.new_policy(0, 0)
    batch = data.held_out(recipe, together=2)
    # where the robot is and what it cost say where the goal is: ranges of one task's two windows fit one goal
    reward, place = np.asarray(batch.reward), np.asarray(batch.next_obs)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 101)] * 2, indexing="ij"), -1).reshape(-1, 2)
    misfit = np.abs(np.linalg.norm(place[:, :, None] - grid, axis=-1) + reward[:, :, None]).mean(1)  # [B, G]
    pairs = (misfit[0::2] + misfit[1::2]).min(1)
    assert pairs.max() < 0.05
    assert len(reward) == 2 * 3
    apart = [misfit[i] + misfit[j] for i in range(6) for j in range(i) if i // 2 != j // 2]
    assert np.min(apart) > 0.05
    found = routing(recipe.objective(), policy, batch, 2)
    assert found[0]["groups"][:4] == ["query", "transition", "task 1, a", "task 1, b"]
