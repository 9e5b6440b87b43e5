"""Pictures and texts of every environment, and gymnasium's wrappers that need them or the length of an episode."""

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RenderCollection, TimeAwareObservation, TimeLimit
from siblings import by_day

from icrl.core.errors import InputError
from icrl.core.registry import environments
from icrl.core.scenes import Episode, Graph, Readings, circle, rows
from icrl.core.types import Environment
from icrl.envs.dark_key_to_door import DarkKeyToDoor, DarkKeyToDoorTask
from icrl.envs.memory_len import MemoryLen
from icrl.gym.environments import IcrlEnv
from icrl.gym.render.canvas import BLUE, PAPER, box, disc, stroke, write
from icrl.gym.render.font import HEIGHT, letters
from icrl.gym.render.frame import LEFT, RENDER_MODES, SIDE, TOP, framed, told
from icrl.gym.render.trace import REMEMBERED, Trace
from icrl.gym.vectors import IcrlVectorEnv

ENV_IDS = [declared.name for declared in environments.declared()]
ROOM = "icrl:icrl/DarkRoom-v0"
SHAPE = (384, 320, 3)


def frames_of(env, num_steps, seed=3):
    """What is rendered after a reset and after each of ``num_steps`` steps, or of the fewer of an episode."""
    env.reset(seed=seed)
    frames = [env.render()]
    for step in range(num_steps):
        actions = env.action_space
        vector = isinstance(actions, gymnasium.spaces.Box)
        _, _, terminated, truncated, _ = env.step(actions.high / (step + 1) if vector else step % actions.n)
        frames.append(env.render())
        if terminated or truncated:
            break
    return frames


# --- every environment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", [by_day(env_id) for env_id in ENV_IDS])
def test_pictures(env_id):
    env = gymnasium.make(f"icrl:icrl/{env_id}", render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.render()
    frames = frames_of(env, 4)
    assert all(type(frame) is np.ndarray and frame.dtype == np.uint8 and frame.shape == SHAPE for frame in frames)
    assert all((new != old).any() for new, old in zip(frames[1:], frames[:-1], strict=True))
    assert np.array_equal(env.render(), frames[-1])  # looking changes nothing
    scene = np.stack(frames)[:, TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    assert (scene[0] != scene[0, 0, 0]).any(), "an empty picture"
    assert np.array_equal(np.stack(frames_of(env, 4)), np.stack(frames))  # same seed, same pictures

    text = gymnasium.make(f"icrl:icrl/{env_id}", render_mode="ansi")
    told_once = frames_of(text, 4)
    assert all(type(frame) is str and frame.endswith("\n") for frame in told_once)
    assert told_once[0].startswith(f"{env.unwrapped.family.name}: step 0 of ") and "a new episode" in told_once[0]
    least = 2 if env.unwrapped.family.spec.ends_early else 3  # the first step may be the last
    assert len(set(told_once)) == len(told_once) >= least and told_once == frames_of(text, 4)


def test_one_that_says_nothing_of_itself_shows_its_observation():
    class Plain(MemoryLen):
        scene = Environment.scene

    episode = Episode(np.zeros((1, 3)), np.array([2, 1]), np.array([0.0, -1.0]), 1, -1.0)
    scene = Plain(length=3).scene(None, None, episode._replace(obs=np.array([[0.5, 0.0, -1.0]])))
    assert isinstance(scene, Readings) and scene.values.tolist() == [0.5, 0.0, -1.0]
    assert told("plain", 4, scene, episode) == (
        "plain: step 3 of 4, return -1\nobservation 0.5 0 -1\naction 1, reward -1\n"
    )
    other = Readings(np.array([0.5, 0.0, 1.0]), -np.inf, np.inf)  # no bounds
    for seen in (scene, other, Readings(np.zeros(5000), 0.0, 1.0), Readings(np.full(1, 3e8), 0.0, 0.0)):
        assert framed("plain", 4, seen, episode).shape == SHAPE
    assert (framed("plain", 4, scene, episode) != framed("plain", 4, other, episode)).any()


@pytest.mark.parametrize(
    "env_id, settings",
    [
        ("DarkRoom-v0", {"size": 2}),
        ("DarkRoom-v0", {"size": 128}),
        ("GaussianBandit-v0", {"num_arms": 1}),
        ("GaussianBandit-v0", {"num_arms": 1000}),
        ("PermutedBandit-v0", {"scale": 0.001}),
        ("PermutedBandit-v0", {"scale": 1000.0}),
        ("RandomMDP-v0", {"num_states": 2, "num_actions": 1}),
        ("Garnet-v0", {"num_states": 200, "num_actions": 100, "horizon": 5}),
        ("DeepSea-v0", {"horizon": 2}),
        ("MemoryLen-v0", {"length": 1}),
        ("MemoryLen-v0", {"length": 1000, "num_bits": 40}),
    ],
)
def test_small_and_large_ones_have_pictures_of_the_same_size(env_id, settings):
    env = gymnasium.make(f"icrl:icrl/{env_id}", render_mode="rgb_array", **settings)
    assert {frame.shape for frame in frames_of(env, 2)} == {SHAPE}
    texts = frames_of(gymnasium.make(f"icrl:icrl/{env_id}", render_mode="ansi", **settings), 2)
    assert len(set(texts)) == 3


# --- what is in a picture ---------------------------------------------------------------------------------------------


def room_env(render_mode, **settings):
    env = IcrlEnv("DarkKeyToDoor-v0", render_mode=render_mode, size=3, horizon=9, **settings)
    task = DarkKeyToDoorTask(key=np.array([2, 1]), goal=np.array([2, 2]), max_steps_in_episode=9)
    env.reset(seed=0, options={"task": task})
    return env


def test_a_room_in_a_text():
    env = room_env("ansi")
    assert env.render() == (
        "DarkKeyToDoor: step 0 of 9, return 0\n. . D\n. @ K\n. . .\n@ (1, 1)  key (2, 1)  door (2, 2)\na new episode\n"
    )
    env.step(0), env.step(3)
    assert env.render() == (
        "DarkKeyToDoor: step 2 of 9, return 1\n. . D\n. + k\n. . @\n"
        "@ (2, 0)  key (2, 1), done  door (2, 2)\naction 3, reward 0\n"
    )
    env.reset()
    assert "step 0 of 9" in env.render() and "+" not in env.render()  # the path of this episode only


def test_a_room_in_a_picture():
    env = room_env("rgb_array")
    cell = (SIDE - 6) // 3

    def middle(x, y):
        return tuple(env.render()[TOP + 3 + round((2.5 - y) * cell), LEFT + 3 + round((x + 0.5) * cell)])

    assert middle(1, 1) == BLUE != middle(2, 0)
    door = middle(2, 2)
    env.step(0), env.step(3)
    assert middle(2, 0) == BLUE != middle(1, 1) and middle(2, 2) == door
    for action in (2, 2, 1):
        env.step(action)
    assert middle(2, 2) != door  # pale when it has paid


def test_landmarks_that_can_pay_no_more():
    room = DarkKeyToDoor()
    state = room.begin(room.cell(0))
    assert [bool(spent) for spent in room.spent(state).values()] == [False, False]
    hard = environments["DarkRoomHard-v0"]()
    assert set(hard.spent(hard.begin(hard.cell(0)))) == {"goal"}
    assert environments["DarkRoom-v0"]().spent(None) == {}


def test_arms_in_a_text():
    env = IcrlEnv("BernoulliBandit-v0", render_mode="ansi", num_arms=2)
    env.reset(seed=0)
    rewards = [env.step(1)[1] for _ in range(4)]
    first, second = env.render().splitlines()[1:3]
    means = np.asarray(env.task.means)
    assert first.split() == ["arm", "0", "0", "pulls,", "no", "mean", "yet", ",", "true", f"{means[0]:.3f}"]
    told_mean = f"{np.mean(rewards):.3f},"
    assert second.split() == ["arm", "1", "#" * 24, "4", "pulls,", "mean", told_mean, "true", f"{means[1]:.3f}"]


def test_states_in_a_text():
    env = IcrlEnv("Chain-v0", render_mode="ansi", slip=0.0)
    env.reset(seed=0)
    env.step(0), env.step(0)
    assert env.render().splitlines()[1:-1] == [
        "0 1 [2] 3 4",
        "way 0 > 1 > 2",
        "action 0 pays 0 and leads to 3 (1.00)",
        "action 1 pays 2 and leads to 0 (1.00)",
    ]


def test_the_truth_of_the_moment_is_drawn_where_arms_change():
    env = IcrlEnv("SwitchingBandit-v0", horizon=3, change_prob=1.0)
    env.reset(seed=0)
    episode = Episode(np.ones((1, 1)), np.zeros(5, int), np.zeros(5), None, 0.0)
    for time in range(3):
        scene = env.family.scene(env.task, env._life.state, episode)
        assert np.array_equal(scene.means, np.asarray(env.task.means)[time])
        env.step(0)


def test_the_end_of_a_memory_shows_what_is_asked():
    env = MemoryLen(length=2)
    scenes = []
    _, state = env.reset_env(jax.random.key(0), env.task(0))
    for _ in range(4):
        scenes.append(env.scene(env.task(0), state, None))
        _, state, *_ = env.step_env(None, state, 0, None)
    assert [scene.path[-1] for scene in scenes] == [0, 1, 2, 3]
    assert [scene.worth.any() for scene in scenes] == [False, False, True, False]
    assert scenes[0].labels == (str(int(state.context[0])), "", "?0", "")
    assert isinstance(scenes[0], Graph) and scenes[0].reach.sum() == 2


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("render_mode", RENDER_MODES)
def test_vector_shows_what_the_single_ones_show(render_mode):
    settings = {"num_envs": 3, "render_mode": render_mode, "horizon": 3}
    ours = gymnasium.make_vec(ROOM, **settings)
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    theirs = gymnasium.make_vec(ROOM, vectorization_mode="sync", vector_kwargs=mode, **settings)
    with pytest.raises(ResetNeeded):
        ours.render()
    ours.reset(seed=1), theirs.reset(seed=1)
    for step in range(8):  # over two ends of episodes
        seen = ours.render()
        assert type(seen) is tuple and len(seen) == 3
        assert all(np.array_equal(one, other) for one, other in zip(seen, theirs.render(), strict=True))
        actions = (np.arange(3) + step) % 5
        ours.step(actions), theirs.step(actions)
    assert ours.render_mode == render_mode and ours.metadata["render_fps"] > 0


def test_a_part_that_is_reset_leaves_the_other_pictures_alone():
    env = IcrlVectorEnv("DarkRoom-v0", num_envs=2, render_mode="ansi")
    env.reset(seed=0)
    env.step([0, 0]), env.step([2, 2])
    before = env.render()
    env.reset(options={"reset_mask": np.array([True, False])})
    first, second = env.render()
    assert "step 0 of" in first and "+" not in first and second == before[1]
    env.step([0, 0])
    assert [text.count("+") for text in env.render()] == [1, 3]


def test_no_mode_no_picture():
    for env in (IcrlEnv("DarkRoom-v0"), IcrlVectorEnv("DarkRoom-v0", num_envs=2)):
        env.reset(seed=0)
        assert env.render_mode is None and env.render() is None


def test_a_long_episode_is_not_kept_for_ever():
    trace = Trace(num_envs=1, num_actions=2)
    trace.begin(np.zeros((1, 1)), np.ones(1, bool))
    for step in range(2 * REMEMBERED):
        trace.add(np.full((1, 1), step), np.array([1]), np.array([0.5]), np.zeros(1, bool))
    episode = trace.episode(0)
    assert episode.obs.shape == (REMEMBERED, 1) and episode.obs[-1] == 2 * REMEMBERED - 1
    assert episode.num_steps == 2 * REMEMBERED and episode.sums.tolist() == [0.0, REMEMBERED]


# --- gymnasium's wrappers, and who makes environments with a render mode ----------------------------------------------


@pytest.mark.parametrize("make", [IcrlEnv, IcrlVectorEnv])
@pytest.mark.parametrize("render_mode", ["human", "rgb", 1, True])
def test_bad_render_mode(make, render_mode):
    with pytest.raises(InputError, match=r"^render_mode: got .*, allowed: '?rgb_array, ansi, None'?$"):
        make("DarkRoom-v0", render_mode=render_mode)


def test_bad_render_mode_through_make():
    with pytest.warns(UserWarning, match="render_mode"), pytest.raises(InputError, match=r"allowed: .*rgb_array, ansi"):
        gymnasium.make(ROOM, render_mode="depth_array")


@pytest.mark.parametrize("render_mode", [None, *RENDER_MODES])
def test_the_checker_draws_too(render_mode):
    check_env(gymnasium.make(ROOM, render_mode=render_mode).unwrapped)
    env = gymnasium.make(ROOM, render_mode=render_mode, disable_env_checker=False)  # checks at every first call
    env.reset(seed=0)
    env.step(0)
    env.render()


def test_collected_frames():
    env = gymnasium.make(ROOM, render_mode="rgb_array_list")
    assert isinstance(env, RenderCollection)
    env.reset(seed=0)
    for action in (0, 2, 4):
        env.step(action)
    frames = env.render()
    assert len(frames) == 4 and all(frame.shape == SHAPE for frame in frames)


def test_made_the_way_of_stable_baselines3():
    """Its ``make_vec_env`` asks for "rgb_array", and for no mode only where that is a TypeError."""
    envs = [gymnasium.make(ROOM, render_mode="rgb_array") for _ in range(4)]
    for rank, env in enumerate(envs):
        env.action_space.seed(rank)
    assert envs[0].render_mode == "rgb_array"
    assert np.stack([env.reset(seed=rank)[0] for rank, env in enumerate(envs)]).shape == (4, 2)
    for env in envs:
        env.step(env.action_space.sample())
    assert np.stack([env.render() for env in envs]).shape == (4, *SHAPE)


def ends_of(env, num_steps):
    """After which of ``num_steps`` steps an episode was truncated; each of them is restarted."""
    env.reset(seed=0)
    ends = []
    for step in range(1, num_steps + 1):
        *_, terminated, truncated, _ = env.step(0)
        assert not terminated
        if truncated:
            ends.append(step)
            env.reset()
    return ends


@pytest.mark.parametrize("settings, length", [({}, 20), ({"horizon": 7}, 7)])
def test_the_spec_tells_the_length_of_an_episode(settings, length):
    assert gymnasium.spec(ROOM.partition(":")[2]).max_episode_steps is None  # so that ``make`` adds no limit
    env = gymnasium.make(ROOM, **settings)
    assert env.spec.max_episode_steps == env.unwrapped.spec.max_episode_steps == length
    assert not isinstance(env, TimeLimit) and not isinstance(env.env, TimeLimit)
    assert ends_of(env, 3 * length) == [length, 2 * length, 3 * length]
    assert ends_of(gymnasium.make(env.spec), 2 * length) == [length, 2 * length]  # here one is added, for the same step
    aware = TimeAwareObservation(env)
    assert aware.observation_space.high[-1] == length
    obs, _ = aware.reset(seed=0)
    assert obs[-1] == 0 and aware.observation_space.contains(obs)
    assert ends_of(aware, 2 * length) == [length, 2 * length]
    shorter = gymnasium.make(ROOM, max_episode_steps=4, **settings)
    assert shorter.spec.max_episode_steps == 4 and ends_of(shorter, 9) == [4, 8]


def test_the_spec_of_a_vector():
    sync = gymnasium.make_vec(ROOM, num_envs=2, vectorization_mode="sync", wrappers=[TimeAwareObservation], horizon=5)
    assert sync.single_observation_space.high[-1] == 5
    env = gymnasium.make_vec(ROOM, num_envs=2, horizon=5)
    assert env.spec.max_episode_steps == 5
    again = gymnasium.make_vec(env.spec)
    again.reset(seed=0)
    assert again.num_envs == 2 and [again.step([0, 0])[3].all() for _ in range(5)] == [False] * 4 + [True]
    with pytest.raises(InputError, match=r"max_episode_steps: got 7, allowed: '?20 or None"):
        gymnasium.make_vec(ROOM, num_envs=2, max_episode_steps=7)


# --- the tools --------------------------------------------------------------------------------------------------------


def test_drawing_is_cut_off_at_the_borders():
    pixels = np.full((20, 30, 3), PAPER, np.uint8)
    disc(pixels, (0, 0), 8, BLUE)
    assert tuple(pixels[0, 0]) == BLUE and tuple(pixels[15, 15]) == PAPER
    for at in ((-50, -50), (100, 100), (28, 18), (-3, 10)):
        disc(pixels, at, 8, BLUE)
        write(pixels, at, "words", BLUE)
        stroke(pixels, np.array([at, (40.0, -5.0)]), 3.0, BLUE)
        box(pixels, *at, at[0] + 9, at[1] + 9, BLUE)
    dot = np.full((9, 9, 3), PAPER, np.uint8)
    stroke(dot, np.array([[4.5, 4.5], [4.5, 4.5]]), 2.0, BLUE)  # a line without length is a dot
    assert (dot != PAPER).any() and tuple(dot[0, 0]) == PAPER


def test_letters():
    text = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ .,-+/:=()%*?><"
    shapes = {letters(character).tobytes() + bytes(letters(character).shape) for character in text}
    assert len(shapes) == len(set(text))
    assert letters("Ab", 2).shape == (2 * HEIGHT, 22) and letters("").shape == (HEIGHT, 0)
    assert not letters("\N{SNOWMAN}").any()  # a gap for what has no shape


def test_places():
    assert circle(4).round(6).tolist() == [[0.5, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]]
    assert rows(3, 3).tolist() == [[0.0, 0.5], [0.5, 0.5], [1.0, 0.5]]
    assert rows(4, 2).tolist() == [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
